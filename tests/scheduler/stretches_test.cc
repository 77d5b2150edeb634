#include "scheduler/stretches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace zoetrope {
namespace {

// `count` units of `tokens`, each `gap` tokens behind the last; every `clean`-th starts clean (0: none).
std::vector<UnitSpan> film(std::size_t count, std::int64_t tokens, std::size_t clean, std::int64_t gap = 3) {
  std::vector<UnitSpan> units;
  for (std::size_t i = 0; i < count; ++i) {
    units.push_back({static_cast<std::int64_t>(i) * (tokens + gap), tokens, clean != 0 && i % clean == 0});
  }
  return units;
}

TEST(Stretches, EndWhereTheTokensEndOrALittleBeforeAtACleanStart) {
  EXPECT_EQ(stretch_end(film(100, 10, 0), 0, {300, 99}), 30U);
  EXPECT_EQ(stretch_end(film(100, 10, 7), 0, {300, 99}), 28U) << "unit 28 starts clean";
  EXPECT_EQ(stretch_end(film(100, 10, 20), 0, {300, 99}), 30U) << "unit 20 is too far before";
  EXPECT_EQ(stretch_end(film(100, 10, 7), 90, {300, 99}), 100U) << "the film's end is the stretch's";
  EXPECT_EQ(stretch_end(film(100, 10, 1), 5, {3, 99}), 6U) << "at least one unit";
  EXPECT_EQ(stretch_end(film(100, 1, 0), 4, {300, 16}), 20U) << "no more than 16 units";
  EXPECT_EQ(stretch_end(film(100, 1, 19), 4, {300, 16}), 19U);
  // Films that start clean rarely.
  EXPECT_EQ(stretch_end(film(100, 1, 19), 0, {300, 16, 2, 64}), 38U) << "two runs";
  EXPECT_EQ(stretch_end(film(100, 1, 19), 0, {30, 16, 2, 64}), 19U) << "one run within 30 tokens";
  EXPECT_EQ(stretch_end(film(100, 1, 70), 0, {300, 16, 2, 64}), 16U) << "no run within 64 units";
  EXPECT_EQ(stretch_end(film(100, 1, 64), 0, {300, 16, 2, 64}), 64U);
  EXPECT_EQ(stretch_end(film(100, 1, 5), 0, {300, 16, 2, 64}), 15U) << "16 units have two runs";
  EXPECT_EQ(stretch_end(film(100, 1, 19), 70, {300, 16, 2, 64}), 95U) << "units 76 and 95 start clean";
}

TEST(Stretches, AreDealtInContiguousRunsOfEqualTokens) {
  for (const int ranks : {1, 2, 3, 4, 16}) {
    for (const std::size_t count : {1U, 2U, 5U, 64U, 301U}) {
      const std::vector<std::int32_t> dealt = dealt_ranks(film(count, 9, 0), ranks);
      ASSERT_EQ(dealt.size(), count);
      EXPECT_TRUE(std::is_sorted(dealt.begin(), dealt.end()));
      for (int rank = 0; rank < ranks; ++rank) {
        const auto units = static_cast<std::size_t>(std::count(dealt.begin(), dealt.end(), rank));
        EXPECT_LE(units, count / static_cast<std::size_t>(ranks) + 1) << ranks << " ranks, " << count << " units";
      }
    }
  }
}

TEST(Stretches, RunsBeginCleanWhereThatCostsLittle) {
  const auto first_of = [](const std::vector<std::int32_t>& dealt, int rank) {
    return std::find(dealt.begin(), dealt.end(), rank) - dealt.begin();
  };
  EXPECT_EQ(first_of(dealt_ranks(film(100, 10, 11), 2), 1), 55) << "five units away from the middle";
  EXPECT_EQ(first_of(dealt_ranks(film(100, 10, 33), 2), 1), 50) << "the nearest are 33 and 66: too far";
}

TEST(Stretches, EveryUnitIsDealtOnceWhateverTheSizes) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<UnitSpan> units;
    std::int64_t at = 0;
    for (std::size_t i = 0, n = 1 + random() % 60; i < n; ++i) {
      const auto tokens = static_cast<std::int64_t>(1 + random() % 500);
      units.push_back({at, tokens, random() % 5 == 0});
      at += tokens + 2;
    }
    const int ranks = static_cast<int>(1 + random() % 9);
    const auto tokens_max = static_cast<std::int64_t>(1 + random() % 3000),
               units_max = static_cast<std::int64_t>(1 + random() % 30);
    std::size_t seen = 0;
    while (seen < units.size()) {
      const std::size_t end = stretch_end(units, seen, {tokens_max, units_max});
      ASSERT_GT(end, seen);
      std::int64_t tokens = 0;
      for (std::size_t i = seen; i < end; ++i) {
        tokens += units[i].tokens;
      }
      EXPECT_TRUE(tokens <= tokens_max || end == seen + 1);
      EXPECT_LE(end - seen, static_cast<std::size_t>(units_max));
      const auto dealt = dealt_ranks(std::span(units).subspan(seen, end - seen), ranks);
      EXPECT_TRUE(std::is_sorted(dealt.begin(), dealt.end()));
      EXPECT_GE(dealt.front(), 0);
      EXPECT_LT(dealt.back(), ranks);
      seen = end;
    }
  }
}

}  // namespace
}  // namespace zoetrope
