#include "parallel/backend/job_board.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

struct alignas(64) Line {
  std::byte bytes[64] = {};
};

class JobBoardTest : public testing::Test {
 protected:
  std::vector<Line> memory_ = std::vector<Line>(JobBoard::bytes(5) / 64 + 1);
  JobBoard board_{std::as_writable_bytes(std::span(memory_)), 5};
};

TEST_F(JobBoardTest, KeepsTheFirstReason) {
  EXPECT_FALSE(board_.stopped());
  EXPECT_EQ(board_.stopped_by(), -1);
  board_.throw_if_stopped();
  board_.stop(3, "first");
  board_.stop(1, "second");
  EXPECT_EQ(board_.stopped_by(), 3);
  EXPECT_TRUE(board_.stopped());
  EXPECT_EQ(board_.reason(), "rank 3 stopped the job: first");
  EXPECT_THROW(board_.throw_if_stopped(), Error);
}

TEST_F(JobBoardTest, CutsLongReasons) {
  board_.stop(0, std::string(5000, 'x'));
  EXPECT_GT(board_.reason().size(), 900U);
  EXPECT_LT(board_.reason().size(), 1100U);
}

TEST_F(JobBoardTest, FollowsThoseWhoWait) {
  EXPECT_EQ(board_.blamed(4), "rank 4");
  board_.set_waits_for(4, 2);
  board_.set_waits_for(2, 0);
  EXPECT_EQ(board_.blamed(4), "rank 4, which waits for rank 2, which waits for rank 0");
  board_.set_waits_for(0, 4);  // a ring ends where it began
  EXPECT_EQ(board_.blamed(4), "rank 4, which waits for rank 2, which waits for rank 0");
  board_.set_waits_for(2, -1);
  EXPECT_EQ(board_.blamed(4), "rank 4, which waits for rank 2");
}

TEST_F(JobBoardTest, OneRankReports) {
  JobBoard other(std::as_writable_bytes(std::span(memory_)), 5);  // as another process sees it
  EXPECT_FALSE(other.report_claimed());
  EXPECT_TRUE(board_.claim_report());
  EXPECT_FALSE(other.claim_report());
  EXPECT_FALSE(board_.claim_report());
  EXPECT_TRUE(other.report_claimed());
}

}  // namespace
}  // namespace zoetrope
