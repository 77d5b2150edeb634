#include "tests/runtime/media/pillow_pictures.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(Webp, PixelsOfThePythonReader) { EXPECT_EQ(compare_with_pillow("webp"), 7); }

TEST(Webp, DamageIsToldInOneLine) { damage_all("webp"); }

}  // namespace
}  // namespace zoetrope
