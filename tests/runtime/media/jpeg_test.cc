#include "tests/runtime/media/pillow_pictures.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(Jpeg, PixelsOfThePythonReader) { EXPECT_EQ(compare_with_pillow("jpeg"), 16); }

TEST(Jpeg, DamageIsToldInOneLine) { damage_all("jpeg"); }

}  // namespace
}  // namespace zoetrope
