#include "runtime/media/patches.h"

#include "runtime/media/resize.h"
#include "runtime/media/source.h"
#include "runtime/media/still.h"
#include "tests/runtime/media/media_folder.h"
#include "tests/safetensors_file.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

// The golden rows hold the address of the source pixel; a frame whose bytes are one digit of that address must come out
// with that digit at every place.
TEST(Patches, OrderOfEveryRecordedElement) {
  const std::vector<std::int32_t> golden =
      SafetensorsFile(preprocess("patch_order.safetensors")).data<std::int32_t>("rows");
  compared(preprocess("patch_order.json"), 4);  // says what the rows are: 4 frames of 64 x 96
  constexpr int kHeight = 64, kWidth = 96, kPixels = kHeight * kWidth;
  constexpr std::size_t kPair = std::size_t{kPixels} * 3 * 2;
  ASSERT_EQ(golden.size(), 2 * kPair);
  for (const int digit : {0, 8, 16}) {
    for (int t = 0; t < 2; ++t) {
      std::vector<std::vector<std::uint8_t>> frames(2, std::vector<std::uint8_t>(std::size_t{kPixels} * 3));
      for (int f = 0; f < 2; ++f) {
        for (int i = 0; i < kPixels * 3; ++i) {
          const int address = ((2 * t + f) * 3 + i % 3) * kPixels + i / 3;
          frames[static_cast<std::size_t>(f)][static_cast<std::size_t>(i)] =
              static_cast<std::uint8_t>(address >> digit);
        }
      }
      std::vector<std::uint8_t> out(kPair);
      write_patches(frames[0], frames[1], kHeight, kWidth, out);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < kPair; ++i) {
        wrong += out[i] != static_cast<std::uint8_t>(golden[static_cast<std::size_t>(t) * kPair + i] >> digit);
      }
      EXPECT_EQ(wrong, 0U) << "pair " << t << " bits from " << digit;
    }
  }
}

TEST(Patches, WholeImagePathEqualsTheReferenceBits) {
  const SafetensorsFile golden(preprocess("pixel_values.safetensors"));
  const Picture decoded = decode_still(MediaSource::file(named_media("media/real_image_1.png")));
  Picture resized;
  resize_bicubic(decoded, 352, 416, resized);
  std::vector<std::uint8_t> bytes(22 * 26 * 1536);
  write_patches(resized.rgb, resized.rgb, 352, 416, bytes);
  EXPECT_EQ(bytes, golden.data<std::uint8_t>("pixel_values_u8"));
  std::vector<float> values(bytes.size());
  normalise_patches(bytes, values);
  values.resize(64 * 1536);
  EXPECT_EQ(values, golden.data<float>("pixel_values.first_64_rows"));
}

}  // namespace
}  // namespace zoetrope
