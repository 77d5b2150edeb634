#include "runtime/prompt/nearest_name.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

TEST(NearestName, FindsSlipsAndLeavesStrangersAlone) {
  static constexpr std::string_view names[] = {"temperature", "top_p", "max_tokens", "--video"};
  EXPECT_EQ(nearest_name("temprature", names), "temperature");
  EXPECT_EQ(nearest_name("max_token", names), "max_tokens");
  EXPECT_EQ(nearest_name("--vidoe", names), "--video");
  EXPECT_EQ(nearest_name("top_p", names), "top_p");
  EXPECT_EQ(nearest_name("colour", names), "");
  EXPECT_EQ(nearest_name("", {}), "");
  EXPECT_EQ(nearest_name(std::string(1 << 20, 'x'), names), "");
}

}  // namespace
}  // namespace zoetrope
