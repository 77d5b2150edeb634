#include "parallel/expert_placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

TEST(ExpertTableTest, DealsAllExpertsContiguously) {
  const ExpertTable table = ExpertTable::contiguous(10, 4);
  EXPECT_EQ(table.ranks_of, (std::vector<std::vector<int>>{{0}, {0}, {0}, {1}, {1}, {1}, {2}, {2}, {3}, {3}}));
  EXPECT_EQ(table.experts_of(2), (std::vector<int>{6, 7}));
  try {
    ExpertTable::contiguous(3, 4);
    FAIL() << "more ranks than experts";
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    EXPECT_NE(std::string(error.what()).find("3 experts for 4 ranks"), std::string::npos) << error.what();
  }
}

TEST(ExpertTableTest, ServesAtHomeFirstAndElseInTurnOverHomes) {
  const ExpertTable table{{{2}, {1, 3}}};
  for (int home = 0; home < 5; ++home) {
    EXPECT_EQ(table.serving(0, home), 2);
  }
  EXPECT_EQ(table.serving(1, 1), 1);
  EXPECT_EQ(table.serving(1, 3), 3);
  EXPECT_EQ(table.serving(1, 0), 1);
  EXPECT_EQ(table.serving(1, 2), 1);
  EXPECT_EQ(table.serving(1, 5), 3);
  EXPECT_EQ(table.experts_of(3), (std::vector<int>{1}));
  EXPECT_TRUE(table.experts_of(0).empty());
}

TEST(ExpertPlacementTest, OneTableServesAllLayers) {
  const ExpertTable a{{{0}, {1}}}, b{{{1}, {0}}};
  EXPECT_EQ((ExpertPlacement{{a}}).of(17), a);
  EXPECT_EQ((ExpertPlacement{{a, b}}).of(1), b);
  EXPECT_EQ((ExpertPlacement{{a, b}}).experts_of(0, 2), (std::vector<std::vector<int>>{{0}, {1}}));
}

TEST(ExpertPlacementTest, GroupsCutTheirExperts) {
  const ExpertPlacement halves = grouped_experts_placement(5, 4, 2, 2);
  EXPECT_EQ(halves.shards, 2);
  EXPECT_EQ(halves.of(3).ranks_of, (std::vector<std::vector<int>>{{0}, {1}, {0}, {1}, {0}, {1}, {2}, {3}, {2}, {3}}));
  const ExpertPlacement whole = grouped_experts_placement(5, 4, 4, 2);
  EXPECT_EQ(whole.shards, 1);
  EXPECT_EQ(whole.of(0), ExpertTable::contiguous(5, 4));
  const auto refusal = [](int experts, int ranks, int groups, int slices) -> std::string {
    try {
      grouped_experts_placement(experts, ranks, groups, slices);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_NE(refusal(8, 8, 3, 2).find("8 / 3 leaves 2"), std::string::npos) << refusal(8, 8, 3, 2);
  EXPECT_NE(refusal(8, 8, 2, 2).find("8 / 2 = 4 ranks"), std::string::npos) << refusal(8, 8, 2, 2);
  EXPECT_NE(refusal(8, 2, 1, 1).find("1 canonical slices"), std::string::npos) << refusal(8, 2, 1, 1);
  EXPECT_NE(refusal(8, 2, 4, 2).find("4 groups"), std::string::npos) << refusal(8, 2, 4, 2);
  EXPECT_NE(refusal(3, 8, 4, 2).find("3 experts for 4 ranks"), std::string::npos) << refusal(3, 8, 4, 2);
}

TEST(ExpertLoad, IsWhatEachRankIsServed) {
  const ExpertTable table{{{0}, {0, 1}}};
  const std::vector<std::uint64_t> load{30, 90};
  // Of the 90, homes 0 and 1 keep their own; home 2 goes to replicas[2 % 2], rank 0.
  EXPECT_EQ(expected_load(table, load, 3), (std::vector<double>{30 + 60, 30, 0}));
  EXPECT_DOUBLE_EQ(max_over_mean(std::vector<double>{90, 30, 0}), 90.0 / 40);
  EXPECT_DOUBLE_EQ(max_over_mean(std::vector<double>{0, 0}), 1.0);
}

std::vector<std::uint64_t> zipf(int experts, double exponent, unsigned seed) {
  std::vector<std::uint64_t> load;
  for (int e = 0; e < experts; ++e) {
    load.push_back(static_cast<std::uint64_t>(1e6 / std::pow(e + 1, exponent)));
  }
  std::mt19937 random(seed);
  std::ranges::shuffle(load, random);
  return load;
}

void check_table(const ExpertTable& table, int experts, int ranks, int extra) {
  ASSERT_EQ(table.experts(), experts);
  for (const auto& holders : table.ranks_of) {
    ASSERT_FALSE(holders.empty());
    ASSERT_TRUE(std::ranges::is_sorted(holders, std::ranges::less_equal{}));  // ascending, distinct
    ASSERT_TRUE(holders.front() >= 0 && holders.back() < ranks);
  }
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_LE(static_cast<int>(table.experts_of(rank).size()), (experts + ranks - 1) / ranks + extra);
  }
}

TEST(BalancedExperts, EvensOutSkewedLoads) {
  for (const int ranks : {2, 4, 8, 16}) {
    for (const unsigned seed : {1U, 2U, 3U}) {
      const auto load = zipf(128, 1.0, seed);
      const double contiguous = max_over_mean(expected_load(ExpertTable::contiguous(128, ranks), load, ranks));
      const ExpertTable plain = balanced_experts(load, ranks, 0);
      const ExpertTable replicated = balanced_experts(load, ranks, 2);
      check_table(plain, 128, ranks, 0);
      check_table(replicated, 128, ranks, 2);
      const double placed = max_over_mean(expected_load(plain, load, ranks));
      const double with_replicas = max_over_mean(expected_load(replicated, load, ranks));
      // One expert cannot be cut: without replicas a rank holds at least the busiest one and the idlest beside it.
      auto sorted = load;
      std::ranges::sort(sorted);
      const double sum = static_cast<double>(std::accumulate(load.begin(), load.end(), std::uint64_t{0}));
      const auto beside = sorted.begin() + 128 / ranks - 1;
      const double least = static_cast<double>(std::accumulate(sorted.begin(), beside, sorted.back()));
      const double bound = std::max(1.0, least * ranks / sum);
      EXPECT_LE(placed, 1.05 * bound) << ranks << " ranks";
      EXPECT_LE(placed, contiguous);
      EXPECT_LE(with_replicas, 1.15) << ranks << " ranks, without replicas " << placed;
      if (ranks >= 8) {
        EXPECT_LT(with_replicas, placed - 0.3);
      }
    }
  }
}

TEST(BalancedExperts, KeepsItsBoundsWhateverTheLoad) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    const int ranks = 1 + static_cast<int>(random() % 9), experts = 1 + static_cast<int>(random() % 40);
    const int extra = static_cast<int>(random() % 4);
    std::vector<std::uint64_t> load;
    for (int e = 0; e < experts; ++e) {
      load.push_back(random() % 4 == 0 ? 0 : random() % 1000 * (random() % 10 == 0 ? 1000 : 1));
    }
    const ExpertTable table = balanced_experts(load, ranks, extra);
    check_table(table, experts, ranks, extra);
    EXPECT_EQ(table, balanced_experts(load, ranks, extra));
  }
}

// What nobody asked for is placed too, once, and evenly.
TEST(BalancedExperts, WithoutLoadEveryRankHoldsItsShare) {
  const ExpertTable table = balanced_experts(std::vector<std::uint64_t>(8, 0), 4, 3);
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(table.experts_of(rank).size(), 2U);
  }
}

}  // namespace
}  // namespace zoetrope
