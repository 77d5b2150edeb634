#include "tests/runtime/media/pillow_pictures.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(Png, PixelsOfThePythonReader) { EXPECT_EQ(compare_with_pillow("png"), 22); }

TEST(Png, DamageIsToldInOneLine) { damage_all("png"); }

}  // namespace
}  // namespace zoetrope
