#include "monitoring/check.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace zoetrope {
namespace {

TEST(Check, PassesWhatHolds) {
  check(true, "holds");
  check_eq(3, 3, "equal");
}

TEST(CheckDeathTest, AbortsWithValuesFileAndLine) {
  EXPECT_DEATH(check(false, "sky is green"), "broken invariant: sky is green \\(.*check_test\\.cc:[0-9]+ in ");
  EXPECT_DEATH(check_eq(3, 4, "heads"), "broken invariant: heads: 3 against 4 \\(.*check_test\\.cc:[0-9]+");
}

TEST(CheckDeathTest, CallsTheHookAfterItsLine) {
  const auto hook = []() noexcept { std::fputs("the hook\n", stderr); };
  set_check_failed_hook(hook);
  EXPECT_DEATH(check(false, "sky is green"), "sky is green [^\n]*\nthe hook\n");
  set_check_failed_hook(nullptr);
}

TEST(DivExact, DividesWithoutRest) {
  EXPECT_EQ(div_exact(12, 4), 3);
  EXPECT_EQ(div_exact(std::int64_t{0}, std::int64_t{7}), 0);
}

TEST(DivExactDeathTest, AbortsOnARestAndOnZero) {
  EXPECT_DEATH(div_exact(7, 2), "division leaves a rest");
  EXPECT_DEATH(div_exact(7, 0), "division leaves a rest");
}

TEST(Rounding, GoesUp) {
  EXPECT_EQ(div_ceil(0, 4), 0);
  EXPECT_EQ(div_ceil(1, 4), 1);
  EXPECT_EQ(div_ceil(8, 4), 2);
  EXPECT_EQ(div_ceil(9, 4), 3);
  EXPECT_EQ(round_up(0, 64), 0);
  EXPECT_EQ(round_up(1, 64), 64);
  EXPECT_EQ(round_up(128, 64), 128);
}

}  // namespace
}  // namespace zoetrope
