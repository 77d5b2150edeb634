#include "parallel/hand_over.h"

#include <gtest/gtest.h>

#include <chrono>

#include "monitoring/error.h"
#include "tests/parallel/hand_over_suite.h"

namespace zoetrope {
namespace {

class HandOverTest : public testing::TestWithParam<bool> {};

TEST_P(HandOverTest, WavesArriveAsTheyWereLeft) {
  for (const Layout layout : {Layout{.pp = 2}, Layout{.pp = 3}, Layout{.pp = 5}, Layout{.ring = 2, .tp = 2, .pp = 2}}) {
    run_ranks(layout, [](Ranks& ranks) { check_hand_over(ranks, GetParam()); });
  }
}

TEST_P(HandOverTest, NobodyWaitsForAListener) {
  run_ranks({.pp = 3}, [](Ranks& ranks) { check_that_nobody_waits_for_a_listener(ranks, GetParam()); });
}

INSTANTIATE_TEST_SUITE_P(SharedOrNot, HandOverTest, testing::Bool());

TEST(HandOverAlone, AloneItIsMemory) {
  Ranks ranks = self_ranks();
  HandOver pipe(ranks, 4, 10);
  const Rows<float> rows = pipe.begin(20, 0);
  EXPECT_EQ(rows.rows, 20);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(rows.data) % 64, 0U);
  pipe.end(true);
  EXPECT_EQ(ranks.pipe->traffic().messages, 0U);
}

// A stage that has died is noticed by those that wait for its rows.
TEST(HandOverFailure, AStageThatIsSilentIsNamed) {
  std::string said;
  try {
    run_ranks({.pp = 2}, [](Ranks& ranks) {
      HandOver pipe(ranks, 4, 10);
      if (!ranks.first_stage()) {
        ranks.world->set_deadline(std::chrono::milliseconds(100));
        pipe.begin(3, 0);
      }
    });
  } catch (const Error& error) {
    said = error.what();
  }
  EXPECT_NE(said.find("rows from the stage before"), std::string::npos) << said;
  EXPECT_NE(said.find("rank 0"), std::string::npos) << said;
}

}  // namespace
}  // namespace zoetrope
