#include "tests/runtime/media/pillow_pictures.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(Gif, PixelsOfThePythonReader) { EXPECT_EQ(compare_with_pillow("gif"), 7); }

TEST(Gif, DamageIsToldInOneLine) { damage_all("gif"); }

}  // namespace
}  // namespace zoetrope
