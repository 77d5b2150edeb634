#include "parallel/collectives.h"

#include <gtest/gtest.h>

#include <bit>
#include <vector>

#include "parallel/ranks.h"
#include "tests/parallel/collectives_suite.h"

namespace zoetrope {
namespace {

class Collectives : public testing::TestWithParam<int> {};

TEST_P(Collectives, Messages) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_messages(*ranks.world); });
}

TEST_P(Collectives, GatheredRows) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_gathered_rows(*ranks.world); });
}

TEST_P(Collectives, Split) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_split(*ranks.world); });
}

TEST_P(Collectives, PostedExchangesEndInAnyOrder) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_posted_exchanges(*ranks.world); });
}

TEST_P(Collectives, PartsBetweenTwoRanksPairUpInOrder) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_order_of_parts(*ranks.world); });
}

TEST_P(Collectives, LongExchange) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_long_exchange(*ranks.world, 100'000); });
}

INSTANTIATE_TEST_SUITE_P(Threads, Collectives, testing::Values(1, 2, 3, 4, 5, 6, 7, 8));

class TreeSums : public testing::TestWithParam<int> {};

TEST_P(TreeSums, EqualTheSerialTreeBitForBit) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_tree_sums(*ranks.world); });
}

INSTANTIATE_TEST_SUITE_P(Threads, TreeSums, testing::Values(1, 2, 4, 8, 16));

TEST(TreeSums, OnOneRankAlone) {
  Ranks ranks = self_ranks();
  check_messages(*ranks.world);
  check_gathered_rows(*ranks.world);
  check_tree_sums(*ranks.world);
  check_long_exchange(*ranks.world, 10);
}

// Sums in another order are seen: on this data a chain ((a + b) + c) + d and the crossed tree (a + c) + (b + d), which
// is what halving from the upper bit down would give, differ from the tree in most places.
TEST(TreeSums, DataTellsOtherOrdersApart) {
  int chain = 0;
  int crossed = 0;
  for (std::int64_t r = 0; r < 10; ++r) {
    for (std::int64_t c = 0; c < 64; ++c) {
      const float a = held_by(0, r, c);
      const float b = held_by(1, r, c);
      const float d = held_by(2, r, c);
      const float e = held_by(3, r, c);
      const float tree = (a + b) + (d + e);
      chain += ((a + b) + d) + e != tree ? 1 : 0;
      crossed += (a + d) + (b + e) != tree ? 1 : 0;
    }
  }
  EXPECT_GT(chain, 100);
  EXPECT_GT(crossed, 100);
}

// The same comparison as the suite's, against a reduction written with the wrong order: it must not pass.
TEST(TreeSums, HalvingFromTheUpperBitFails) {
  int differ = 0;
  run_ranks({.ring = 4}, [&](Ranks& ranks) {
    Communicator& comm = *ranks.world;
    std::vector<float> mine(64);
    for (std::size_t c = 0; c < 64; ++c) {
      mine[c] = held_by(comm.rank(), 0, static_cast<std::int64_t>(c));
    }
    for (int bit = 2; bit >= 1; bit /= 2) {
      std::vector<float> theirs(64);
      const SendPart send{comm.rank() ^ bit, std::as_bytes(std::span(mine))};
      const ReceivePart receive{comm.rank() ^ bit, std::as_writable_bytes(std::span(theirs))};
      std::vector<float> sent = mine;
      const SendPart copy{send.peer, std::as_bytes(std::span(sent))};
      comm.exchange({&copy, 1}, {&receive, 1}, "mutant");
      for (std::size_t c = 0; c < 64; ++c) {
        mine[c] += theirs[c];
      }
    }
    std::vector<float> right(64);
    for (std::size_t c = 0; c < 64; ++c) {
      right[c] = held_by(comm.rank(), 0, static_cast<std::int64_t>(c));
    }
    tree_all_reduce_rows(comm, Rows<float>(right.data(), 1, 64), "tree");
    if (comm.rank() == 0) {
      for (std::size_t c = 0; c < 64; ++c) {
        differ += std::bit_cast<std::uint32_t>(mine[c]) != std::bit_cast<std::uint32_t>(right[c]) ? 1 : 0;
      }
    }
  });
  EXPECT_GT(differ, 10);
}

TEST(TreeSums, RefusesOtherNumbersOfRanks) {
  EXPECT_DEATH(run_ranks({.ring = 3},
                         [](Ranks& ranks) {
                           float value = 0;
                           tree_all_reduce_rows(*ranks.world, Rows<float>(&value, 1, 1), "tree");
                         }),
               "power of two");
}

}  // namespace
}  // namespace zoetrope
