#include "parallel/backend/host_name.h"

#include <gtest/gtest.h>
#include <sys/utsname.h>

namespace zoetrope {
namespace {

TEST(HostName, IsTheKernels) {
  utsname names{};
  ASSERT_EQ(::uname(&names), 0);
  EXPECT_EQ(host_name(), names.nodename);
}

}  // namespace
}  // namespace zoetrope
