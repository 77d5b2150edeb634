#include "runtime/cli/terminal.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

TEST(Terminal, TimesAndSizesAsPeopleSayThem) {
  EXPECT_EQ(human_seconds(3.21), "3.2 s");
  EXPECT_EQ(human_seconds(250), "4 min 10 s");
  EXPECT_EQ(human_seconds(7400), "2 h 3 min");
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(12.3 * 1024 * 1024), "12.3 MiB");
}

TEST(Terminal, TheRateOfAnAnswerCountsFromItsFirstToken) {
  EXPECT_EQ(answer_rate(11, 2), 5);
  EXPECT_EQ(answer_rate(1, 2), 0);
  EXPECT_EQ(answer_rate(0, 2), 0);
  EXPECT_EQ(answer_rate(11, 0), 0);
}

TEST(Terminal, ASilentRankPrintsNothing) {
  testing::internal::CaptureStderr();
  {
    Progress progress("loading", "%", /*shown=*/false);
    progress.update(1, 2);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace zoetrope
