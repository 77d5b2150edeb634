#include "scheduler/waves.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace zoetrope {
namespace {

// About those of the 30B-A3B: a row's products equal 6,900 tokens of attention.
constexpr WaveCost kCost{.fixed = 127, .context = 1.45e-4};

double largest_over_smallest(const WaveCost& cost, std::int64_t first, const std::vector<std::int64_t>& chunks) {
  double least = 1e300, most = 0;
  for (const std::int64_t rows : chunks) {
    const double one = cost.fixed + rows_cost(cost, first, rows);
    least = std::min(least, one);
    most = std::max(most, one);
    first += rows;
  }
  return most / least;
}

TEST(Waves, RowsCostWhatTheirContextAsks) {
  double sum = 0;
  for (std::int64_t row = 100; row < 150; ++row) {
    sum += 1 + 0.25 * static_cast<double>(row + 1);
  }
  EXPECT_DOUBLE_EQ(rows_cost({.fixed = 9, .context = 0.25}, 100, 50), sum);
  EXPECT_EQ(rows_cost(kCost, 5, 0), 0);
}

// The promise: chunks of one prefill take the same time as the context grows, within 10 %; chunks of equal rows do not.
TEST(Waves, ChunksOfOnePrefillCostTheSame) {
  for (const std::int64_t first : {0, 1000, 30'000, 1'000'000}) {
    for (const std::int64_t tokens : {400, 8192, 100'000}) {
      for (const int parts : {2, 3, 8}) {
        const auto chunks = equal_chunks(kCost, first, tokens, parts);
        ASSERT_EQ(chunks.size(), static_cast<std::size_t>(parts));
        EXPECT_EQ(std::accumulate(chunks.begin(), chunks.end(), std::int64_t{0}), tokens);
        EXPECT_TRUE(std::is_sorted(chunks.rbegin(), chunks.rend(),
                                   [](auto a, auto b) { return a + 1 < b; }));  // shrink, rounding apart
        EXPECT_LT(largest_over_smallest(kCost, first, chunks), 1.03) << first << " + " << tokens << " in " << parts;
      }
    }
  }
  EXPECT_GT(largest_over_smallest(kCost, 0, std::vector<std::int64_t>(8, 12'500)), 5);
}

TEST(Waves, ChunksOfOnePrefillWithoutContextAreEqual) {
  EXPECT_EQ(equal_chunks({}, 7, 12, 3), (std::vector<std::int64_t>{4, 4, 4}));
  EXPECT_EQ(equal_chunks({}, 7, 13, 3), (std::vector<std::int64_t>{4, 5, 4}));
}

TEST(Waves, FewTokensGiveFewChunks) {
  EXPECT_EQ(equal_chunks(kCost, 0, 0, 4), std::vector<std::int64_t>{});
  EXPECT_EQ(equal_chunks(kCost, 50, 1, 4), std::vector<std::int64_t>{1});
  EXPECT_EQ(equal_chunks(kCost, 50, 3, 4), (std::vector<std::int64_t>{1, 1, 1}));
  EXPECT_EQ(equal_chunks({.context = 100}, 0, 4, 3), (std::vector<std::int64_t>{2, 1, 1}));
}

TEST(Waves, AsManyWavesAsEndSoonest) {
  EXPECT_EQ(best_waves(kCost, 1e6, 1, 8), 1) << "without a pipeline nothing is gained";
  EXPECT_EQ(best_waves(kCost, 1e9, 2, 8), 8);
  EXPECT_EQ(best_waves({.fixed = 100}, 1600, 2, 64), 4);  // sqrt(work (stages - 1) / fixed)
  EXPECT_EQ(best_waves({.fixed = 100}, 1600, 5, 64), 8);
  EXPECT_EQ(best_waves({.fixed = 100}, 8, 4, 64), 1) << "eight rows read the weights once";
  EXPECT_EQ(best_waves({}, 0, 4, 8), 1);
}

TEST(Waves, BubbleIsTheClosedForm) {
  EXPECT_DOUBLE_EQ(bubble(2, 8), 1.0 / 9);
  EXPECT_DOUBLE_EQ(bubble(4, 1), 0.75);
  EXPECT_EQ(bubble(1, 5), 0);
}

}  // namespace
}  // namespace zoetrope
