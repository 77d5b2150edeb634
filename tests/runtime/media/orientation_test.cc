#include "runtime/media/orientation.h"

#include <array>

#include "tests/runtime/media/media_folder.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

// 2 x 3, values 1..6 row by row; the eight results as TIFF 6.0 describes the orientation tag.
TEST(Orientation, EightWays) {
  std::vector<std::uint8_t> rows(2 * 16, 99);  // rows of 16 bytes
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      rows[i / 3 * 16 + i % 3 * 3 + c] = static_cast<std::uint8_t>(10 * (i + 1) + c);
    }
  }
  const std::array<std::vector<int>, 9> expected = {{{},
                                                     {1, 2, 3, 4, 5, 6},
                                                     {3, 2, 1, 6, 5, 4},
                                                     {6, 5, 4, 3, 2, 1},
                                                     {4, 5, 6, 1, 2, 3},
                                                     {1, 4, 2, 5, 3, 6},
                                                     {4, 1, 5, 2, 6, 3},
                                                     {6, 3, 5, 2, 4, 1},
                                                     {3, 6, 2, 5, 1, 4}}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Picture out = turned(rows.data(), 2, 3, 16, orientation);
    EXPECT_EQ(out.height, swaps_sides(orientation) ? 3 : 2);
    for (std::size_t i = 0; i < 6; ++i) {
      for (std::size_t c = 0; c < 3; ++c) {
        EXPECT_EQ(out.rgb[3 * i + c], 10 * expected[static_cast<std::size_t>(orientation)][i] + static_cast<int>(c))
            << orientation;
      }
    }
  }
}

TEST(Orientation, DisplayMatricesOfPhones) {
  constexpr std::int32_t one = 1 << 16;
  using Matrix = std::array<std::int32_t, 9>;
  const auto of = [](const Matrix& m) { return matrix_orientation(m); };
  EXPECT_EQ(of({one, 0, 0, 0, one, 0, 0, 0, 1 << 30}), 1);
  EXPECT_EQ(of({0, one, 0, -one, 0, 0, 0, 0, 1 << 30}), 6);  // turned clockwise when shown
  EXPECT_EQ(of({-one, 0, 0, 0, -one, 0, 0, 0, 1 << 30}), 3);
  EXPECT_EQ(of({0, -one, 0, one, 0, 0, 0, 0, 1 << 30}), 8);
  EXPECT_EQ(of({-one, 0, 0, 0, one, 0, 0, 0, 1 << 30}), 2);
  EXPECT_EQ(of({2 * one, 0, 0, 0, 3 * one, 0, 0, 0, 1 << 30}), 1);
  EXPECT_EQ(of({one, one, 0, -one, one, 0, 0, 0, 1 << 30}), std::nullopt);
  EXPECT_EQ(of({0, 0, 0, 0, 0, 0, 0, 0, 0}), std::nullopt);
}

TEST(Orientation, HostileExif) {
  const auto of = [](std::vector<int> values) {
    std::vector<std::byte> bytes;
    for (const int v : values) {
      bytes.push_back(static_cast<std::byte>(v));
    }
    return exif_orientation(bytes);
  };
  EXPECT_EQ(of({}), std::nullopt);
  EXPECT_EQ(of({'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0}), 6);
  EXPECT_EQ(of({'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 8, 0, 0}), 8);
  EXPECT_EQ(of({'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0}), std::nullopt);
  EXPECT_EQ(of({'I', 'I', 42, 0, 0xff, 0xff, 0xff, 0xff}), std::nullopt);
  EXPECT_EQ(of({'I', 'I', 42, 0, 8, 0, 0, 0, 0xff, 0xff, 1, 2, 3}), std::nullopt);
  EXPECT_EQ(xmp_orientation("<a tiff:Orientation=\"6\""), 6);
  EXPECT_EQ(xmp_orientation("<tiff:Orientation>8</tiff:Orientation>"), 8);
  EXPECT_EQ(xmp_orientation("tiff:Orientation"), std::nullopt);
  EXPECT_EQ(xmp_orientation("tiff:Orientation=\""), std::nullopt);
}

TEST(Orientation, Degrees) {
  EXPECT_EQ(clockwise_degrees(6), 90);
  EXPECT_EQ(clockwise_degrees(3), 180);
  EXPECT_EQ(clockwise_degrees(8), 270);
}

}  // namespace
}  // namespace zoetrope
