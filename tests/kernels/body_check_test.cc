#include "kernels/body_check.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

TEST(BodyCheck, EveryBodyHereKeepsTheDefinition) {
  for (const BodyKind kind : bodies_here()) {
    EXPECT_EQ(differing_products(kind), 0) << body_name(kind);
  }
}

}  // namespace
}  // namespace zoetrope
