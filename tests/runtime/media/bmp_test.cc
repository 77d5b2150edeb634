#include "tests/runtime/media/pillow_pictures.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(Bmp, PixelsOfThePythonReader) { EXPECT_EQ(compare_with_pillow("bmp"), 12); }

TEST(Bmp, DamageIsToldInOneLine) { damage_all("bmp"); }

}  // namespace
}  // namespace zoetrope
