#include "runtime/model/vision_tower.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/golden/case_check.h"
#include "tests/runtime/model/tiny_models.h"

namespace zoetrope::test {
namespace {

TEST(VisionTower, EqualsTheReferenceBlockByBlock) {
  for (const char* checkpoint : {"tiny-dense", "tiny-moe", "tiny-moe-fp8"}) {  // head widths 64, 24 and 72
    for (const char* name : {"image_min_pixels", "video"}) {
      for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
        const CaseResult result = check_case(golden_folder(), checkpoint, name, precision, {});
        EXPECT_TRUE(result.failures.empty()) << checkpoint << "/" << name << ": " << result.failures.front();
      }
    }
  }
}

std::vector<float> encoded(Model& model, const std::vector<float>& pixels, int units, int gh, int gw) {
  const std::int64_t patches = std::int64_t{units} * gh * gw;
  std::vector<float> out(static_cast<std::size_t>(patches / 4 * model.feature_columns()));
  model.encode({.patches = {pixels.data(), patches, 1536}, .units = units, .gh = gh, .gw = gw},
               {out.data(), patches / 4, model.feature_columns()});
  return out;
}

// One answer: a frame's features know neither the frames beside it nor the threads.
TEST(VisionTower, FramesTogetherAreFramesAlone) {
  const Checkpoint checkpoint = open_tiny("tiny-moe");
  Ranks ranks = self_ranks();
  std::mt19937 random(3);
  std::uniform_real_distribution<float> pixel(-1, 1);
  constexpr int kUnits = 6, kHeight = 20, kWidth = 22;  // 2640 patches: more than one tile of rows
  std::vector<float> pixels(std::size_t{kUnits} * kHeight * kWidth * 1536);
  for (float& p : pixels) {
    p = pixel(random);
  }
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    ThreadPool two(2);
    const auto model = load_tiny(checkpoint, ranks, two, precision);
    const std::vector<float> together = encoded(*model, pixels, kUnits, kHeight, kWidth);
    ThreadPool one(1);
    const auto single = load_tiny(checkpoint, ranks, one, precision);
    const std::size_t frame = std::size_t{kHeight} * kWidth;
    for (const int unit : {0, 3, 5}) {
      const auto first = pixels.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(unit) * frame * 1536);
      const std::vector<float> alone =
          encoded(*single, {first, first + static_cast<std::ptrdiff_t>(frame * 1536)}, 1, kHeight, kWidth);
      EXPECT_EQ(std::memcmp(alone.data(), together.data() + static_cast<std::size_t>(unit) * alone.size(),
                            alone.size() * sizeof(float)),
                0)
          << "unit " << unit;
    }
  }
}

TEST(VisionTower, NothingToEncodeIsFine) {
  const Checkpoint checkpoint = open_tiny("tiny-dense");
  Ranks ranks = self_ranks();
  ThreadPool pool(1);
  const auto model = load_tiny(checkpoint, ranks, pool, Precision::kBf16);
  EXPECT_TRUE(encoded(*model, {}, 0, 4, 4).empty());
}

}  // namespace
}  // namespace zoetrope::test
