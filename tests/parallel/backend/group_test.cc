#include "parallel/backend/group.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "monitoring/error.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

TEST(GroupTest, SplitsOrderByKeyAndNumbersApart) {
  run_ranks({.ring = 6}, [](Ranks& ranks) {
    const int rank = ranks.place.rank;
    int next = 10 + rank % 2;  // ranks have made different numbers of groups before
    const Group whole = whole_group(rank, 6);
    const Group third = split_group(*ranks.world, whole, rank / 2, -rank, next);
    EXPECT_EQ(third.members, (std::vector<int>{rank / 2 * 2 + 1, rank / 2 * 2}));
    EXPECT_EQ(third.members[static_cast<std::size_t>(third.rank)], rank);
    EXPECT_EQ(third.number, 11 + rank / 2);
    EXPECT_EQ(next, 14);
  });
}

TEST(GroupTest, GivingUpNamesManyRanksBriefly) {
  std::vector<std::byte> memory(JobBoard::bytes(100) + 64);
  JobBoard board(memory, 100);
  std::vector<int> missing;
  for (int r = 1; r < 100; ++r) {
    missing.push_back(r);
  }
  try {
    give_up(board, 0, "roll call", std::chrono::milliseconds(1500), missing);
    FAIL();
  } catch (const Error& error) {
    const std::string said = error.what();
    EXPECT_EQ(error.radius(), Radius::kCluster);
    EXPECT_NE(said.find("rank 0 in 'roll call'"), std::string::npos) << said;
    EXPECT_NE(said.find("rank 8; 91 more for 1.5 s"), std::string::npos) << said;
  }
  EXPECT_TRUE(board.stopped());
}

}  // namespace
}  // namespace zoetrope
