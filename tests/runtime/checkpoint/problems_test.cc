#include "runtime/checkpoint/problems.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

TEST(Problems, ThrowsTheFirstAndCountsTheRest) {
  Problems problems;
  EXPECT_TRUE(problems.empty());
  problems.throw_first();
  problems.add({"one", "1", "2", "fix"});
  EXPECT_EQ(message_of([&] { problems.throw_first(); }), "one: found 1, expected 2; fix");
  problems.add(Error(Radius::kStartup, "two"));
  expect_parts(message_of([&] { problems.throw_first(); }),
               {"one: found 1", "(1 more problem: `zoetrope inspect` lists all)"});
  problems.add({"three", "1", "2", "fix"});
  expect_parts(message_of([&] { problems.throw_first(); }), {"(2 more problems:"});
  EXPECT_EQ(problems.lines().size(), 3U);
  EXPECT_EQ(problems.lines()[1], "two");
}

}  // namespace
}  // namespace zoetrope::test
