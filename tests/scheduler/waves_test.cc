#include "scheduler/waves.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

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

TEST(Waves, RowsWithinABudget) {
  for (const std::int64_t first : {0, 5000, 1'000'000}) {
    const std::int64_t rows = rows_within(kCost, first, 4000);
    EXPECT_LE(rows_cost(kCost, first, rows), 4000);
    EXPECT_GT(rows_cost(kCost, first, rows + 1), 4000);
  }
  EXPECT_EQ(rows_within(kCost, 1'000'000, 1), 1);
}

constexpr Span kWhole{};
const Span& whole(RequestId) { return kWhole; }

Chunk prefill(std::uint64_t id, std::int64_t first, std::int64_t tokens, bool sampled) {
  Chunk chunk;
  chunk.id = RequestId{id};
  chunk.first_token = first;
  chunk.tokens = tokens;
  for (std::int64_t page = (first + 255) / 256; page < (first + tokens + 255) / 256; ++page) {
    chunk.new_pages.push_back(static_cast<std::int32_t>(1000 * id + static_cast<std::uint64_t>(page)));
  }
  if (sampled) {
    chunk.sampled = {first + tokens - 1};
  }
  return chunk;
}

Chunk decoding(std::uint64_t id, std::int64_t first) {
  Chunk chunk = prefill(id, first, 1, true);
  chunk.drawn_tokens = {5};
  return chunk;
}

std::vector<double> wave_costs(const WaveCost& cost, const std::vector<Chunk>& chunks) {
  std::vector<double> costs;
  for (const Chunk& chunk : chunks) {
    costs.resize(std::max<std::size_t>(costs.size(), static_cast<std::size_t>(chunk.wave) + 1), cost.fixed);
    costs[static_cast<std::size_t>(chunk.wave)] += rows_cost(cost, chunk.first_token, chunk.tokens);
  }
  return costs;
}

double unevenness(const std::vector<double>& costs) {
  return *std::max_element(costs.begin(), costs.end()) * static_cast<double>(costs.size()) /
         std::accumulate(costs.begin(), costs.end(), 0.0);
}

// What every cut keeps: the rows of a sequence in order, in ascending waves, every page with the first chunk that needs
// it.
void expect_the_same_work(const std::vector<Chunk>& before, const std::vector<Chunk>& after) {
  EXPECT_TRUE(
      std::is_sorted(after.begin(), after.end(), [](const Chunk& a, const Chunk& b) { return a.wave < b.wave; }));
  int wave = -1;
  for (const Chunk& chunk : after) {
    EXPECT_LE(chunk.wave, wave + 1) << "an empty wave";
    wave = chunk.wave;
  }
  std::size_t pieces = 0;
  for (const Chunk& whole_chunk : before) {
    Chunk joined;
    joined.id = whole_chunk.id;
    joined.first_token = whole_chunk.first_token;
    std::int64_t pages = (whole_chunk.first_token + whole_chunk.tokens + 255) / 256 -
                         static_cast<std::int64_t>(whole_chunk.new_pages.size());
    int last = -1;
    for (const Chunk& piece : after) {
      if (piece.id != whole_chunk.id) {
        continue;
      }
      ++pieces;
      EXPECT_GT(piece.wave, last) << "one sequence twice in a wave";
      last = piece.wave;
      EXPECT_EQ(piece.first_token, joined.first_token + joined.tokens);
      EXPECT_GT(piece.tokens, 0);
      joined.tokens += piece.tokens;
      joined.new_pages.insert(joined.new_pages.end(), piece.new_pages.begin(), piece.new_pages.end());
      joined.sampled.insert(joined.sampled.end(), piece.sampled.begin(), piece.sampled.end());
      joined.drawn_tokens.insert(joined.drawn_tokens.end(), piece.drawn_tokens.begin(), piece.drawn_tokens.end());
      pages += static_cast<std::int64_t>(piece.new_pages.size());
      EXPECT_EQ(pages, (piece.first_token + piece.tokens + 255) / 256);
      for (const std::int64_t index : piece.sampled) {
        EXPECT_TRUE(index >= piece.first_token && index < piece.first_token + piece.tokens);
      }
    }
    EXPECT_EQ(joined, whole_chunk);
  }
  EXPECT_EQ(pieces, after.size());
}

TEST(Waves, ALongPrefillFlowsInChunksOfEqualTime) {
  const std::vector<Chunk> chunks{prefill(1, 1000, 8000, true)};
  const auto cut = cut_in_waves(chunks, {.stages = 2, .waves_max = 8, .rows_max = 1024, .cost = kCost}, 1, whole);
  expect_the_same_work(chunks, cut);
  ASSERT_EQ(cut.size(), 8U);
  EXPECT_LT(unevenness(wave_costs(kCost, cut)), 1.01);
  EXPECT_GT(cut.front().tokens, cut.back().tokens);
  EXPECT_TRUE(cut.front().sampled.empty());
}

TEST(Waves, ManySequencesFillTheBubble) {
  std::vector<Chunk> chunks;
  for (std::uint64_t i = 0; i < 9; ++i) {
    chunks.push_back(decoding(100 + i, 3000));
  }
  chunks.push_back(prefill(1, 0, 2000, true));
  chunks.push_back(prefill(2, 512, 700, true));
  chunks.push_back(prefill(3, 0, 20, true));
  const auto cut = cut_in_waves(chunks, {.stages = 3, .waves_max = 12, .rows_max = 1024, .cost = kCost}, 1, whole);
  expect_the_same_work(chunks, cut);
  EXPECT_GT(cut.back().wave, 3);
  EXPECT_LT(unevenness(wave_costs(kCost, cut)), 1.05);
}

// Rows that only read the weights once more gain nothing by a second wave; rows that read long contexts do.
TEST(Waves, DecodingRowsAreSpreadWhereTheyAreWork) {
  std::vector<Chunk> near, far;
  for (std::uint64_t i = 0; i < 16; ++i) {
    near.push_back(decoding(i, 100));
    far.push_back(decoding(i, 300'000));
  }
  const Pipeline pipeline{.stages = 2, .waves_max = 8, .rows_max = 1024, .cost = kCost};
  EXPECT_EQ(cut_in_waves(near, pipeline, 1, whole).back().wave, 0);
  const auto spread = cut_in_waves(far, pipeline, 1, whole);
  expect_the_same_work(far, spread);
  EXPECT_GE(spread.back().wave, 1);
  EXPECT_LT(unevenness(wave_costs(kCost, spread)), 1.2);
}

// Members of the ring are balanced each for itself, and a sequence that spans members is in one wave on all of them.
TEST(Waves, RandomStepsKeepTheirWork) {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const int ring = 1 + static_cast<int>(random() % 4);
    std::map<RequestId, Span> spans;
    std::vector<Chunk> chunks;
    for (std::uint64_t id = 1; id <= 1 + random() % 12; ++id) {
      const auto first = static_cast<std::int64_t>(random() % 5000);
      chunks.push_back(random() % 2 == 0
                           ? decoding(id, first)
                           : prefill(id, first, 1 + static_cast<std::int64_t>(random() % 3000), random() % 2 == 0));
      spans[RequestId{id}] = {.members = ring >= 2 && random() % 3 == 0 ? 2 : 1,
                              .first_member = static_cast<int>(random() % static_cast<unsigned>(ring)),
                              .ring = ring};
    }
    const Pipeline pipeline{.stages = 2 + static_cast<int>(random() % 3),
                            .waves_max = 1 + static_cast<int>(random() % 9),
                            .rows_max = 512,
                            .cost = kCost};
    const auto cut = cut_in_waves(chunks, pipeline, ring, [&](RequestId id) -> const Span& { return spans.at(id); });
    expect_the_same_work(chunks, cut);
    EXPECT_LT(cut.back().wave, pipeline.waves_max);
  }
}

TEST(Waves, BubbleIsTheClosedForm) {
  EXPECT_DOUBLE_EQ(bubble(2, 8), 1.0 / 9);
  EXPECT_DOUBLE_EQ(bubble(4, 1), 0.75);
  EXPECT_EQ(bubble(1, 5), 0);
}

}  // namespace
}  // namespace zoetrope
