#include "runtime/media/resize.h"

#include <random>

#include "runtime/media/source.h"
#include "runtime/media/still.h"
#include "tests/runtime/media/media_folder.h"
#include "tests/safetensors_file.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(Resize, EqualsTheReferenceOnEveryRecordedShape) {
  const SafetensorsFile golden(preprocess("resize.safetensors"));
  const json::Value rows = rows_of("resize.json");
  ASSERT_GE(rows.as_array().size(), 40U);
  for (const json::Value& row : rows.as_array()) {
    const std::string k = std::to_string(row.at("index").to_number<int>());
    const auto& from = golden.shape("in." + k);
    const auto& to = golden.shape("out." + k);
    const Picture in =
        from_planes(golden.data<std::uint8_t>("in." + k), static_cast<int>(from[1]), static_cast<int>(from[2]));
    const Picture expected =
        from_planes(golden.data<std::uint8_t>("out." + k), static_cast<int>(to[1]), static_cast<int>(to[2]));
    Picture out;
    resize_bicubic(in, expected.height, expected.width, out);
    expect_same(out, expected, "row " + k);
  }
}

TEST(Resize, AllInstructionSetsGiveTheSameBits) {
  if (!detail::avx2_present() || !detail::avx512_present()) {
    GTEST_LOG_(INFO) << (detail::avx2_present() ? "no AVX-512" : "no AVX2")
                     << " here: compared are the bodies that run";
  }
  std::mt19937 random(7);
  for (const auto& [in, out] : std::vector<std::pair<int, int>>{
           {1, 32}, {5, 96}, {33, 32}, {97, 32}, {640, 416}, {1000, 31}, {1920, 32}, {64, 65}, {32, 64}, {100, 101}}) {
    const ResizeAxis axis(in, out);
    std::vector<std::uint8_t> line(static_cast<std::size_t>(in) * 3 + kRowSlackBytes);
    for (auto& v : line) {
      v = (random() & 1) != 0 ? 255 : 0;
    }
    std::vector<std::uint8_t> plain(static_cast<std::size_t>(out) * 3);
    auto fast = plain;
    detail::resize_row_plain(axis, line.data(), plain.data());
    (detail::avx2_present() ? detail::resize_row_avx2 : detail::resize_row_plain)(axis, line.data(), fast.data());
    EXPECT_EQ(plain, fast) << in << " -> " << out;
    std::vector<std::uint8_t> others(line.rbegin(), line.rend()), expected(plain.size());
    detail::resize_row_plain(axis, others.data(), expected.data());
    std::vector<std::vector<std::uint8_t>> four(4, std::vector<std::uint8_t>(plain.size()));
    const std::uint8_t* const lines[4] = {line.data(), others.data(), others.data(), line.data()};
    std::uint8_t* const outs[4] = {four[0].data(), four[1].data(), four[2].data(), four[3].data()};
    if (detail::avx512_present()) {
      detail::resize_rows_avx512(axis, lines, outs);
      EXPECT_EQ(four, (std::vector{plain, expected, expected, plain})) << in << " -> " << out << " with AVX-512";
    }
    const std::size_t row_bytes = 3 * 29;
    std::vector<std::uint8_t> rows(static_cast<std::size_t>(in) * row_bytes);
    for (auto& v : rows) {
      v = static_cast<std::uint8_t>(random());
    }
    for (int y = 0; y < out; ++y) {
      std::vector<std::uint8_t> a(row_bytes), b(row_bytes);
      detail::resize_column_plain(axis, y, rows.data(), row_bytes, a.data());
      (detail::avx2_present() ? detail::resize_column_avx2 : detail::resize_column_plain)(axis, y, rows.data(),
                                                                                          row_bytes, b.data());
      ASSERT_EQ(a, b) << in << " -> " << out << " row " << y;
    }
  }
}

// Weights that two bytes do not hold: such an axis goes another way, to the same bits.
TEST(Resize, WeightsThatAreTooLargeForBytes) {
  int found = 0;
  for (int in = 33; in < 2000 && found < 3; ++in) {
    const ResizeAxis axis(in, 64);
    if (!axis.fours.empty()) {
      continue;
    }
    ++found;
    EXPECT_GT(std::ranges::max(axis.weight), 127 * 256 + 127);
    Picture picture = Picture::blank(9, in);
    std::mt19937 random(static_cast<unsigned>(in));
    for (auto& v : picture.rgb) {
      v = static_cast<std::uint8_t>(random());
    }
    Picture out = Picture::blank(9, 64);
    Resizer(9, in, 9, 64).apply(picture.rgb.data(), in * 3, out.rgb);
    std::vector<std::uint8_t> plain(64 * 3), line(static_cast<std::size_t>(in) * 3 + kRowSlackBytes);
    for (std::size_t y = 0; y < 9; ++y) {
      std::copy_n(picture.rgb.begin() + static_cast<std::ptrdiff_t>(y) * in * 3, in * 3, line.begin());
      detail::resize_row_plain(axis, line.data(), plain.data());
      EXPECT_TRUE(std::equal(plain.begin(), plain.end(), out.rgb.begin() + static_cast<std::ptrdiff_t>(y * 64 * 3)))
          << in << " row " << y;
    }
  }
  EXPECT_GT(found, 0);
}

// The weights of the reference document's appendix A.
TEST(Resize, KnownWeights) {
  const ResizeAxis up(4, 8);
  EXPECT_EQ(up.first[3], 0);
  ASSERT_EQ(up.count[3], 4);
  const double scale = 1 << up.shift;
  const std::vector<double> expected = {-0.0703125, 0.8671875, 0.2265625, -0.0234375};
  for (std::size_t j = 0; j < 4; ++j) {
    EXPECT_NEAR(up.weight[3 * static_cast<std::size_t>(up.taps) + j] / scale, expected[j], 0.5 / scale);
  }
  const ResizeAxis down(100, 32);
  EXPECT_EQ(down.first[5], 11);
  EXPECT_EQ(down.count[5], 12);
}

TEST(Resize, ReadsRowsWithPadding) {
  Picture in = Picture::blank(40, 50);
  for (std::size_t i = 0; i < in.rgb.size(); ++i) {
    in.rgb[i] = static_cast<std::uint8_t>(i * 31);
  }
  std::vector<std::uint8_t> padded(40 * 192, 77);
  for (std::size_t y = 0; y < 40; ++y) {
    std::copy_n(in.rgb.begin() + static_cast<std::ptrdiff_t>(y * 150), 150,
                padded.begin() + static_cast<std::ptrdiff_t>(y * 192));
  }
  Picture expected;
  resize_bicubic(in, 32, 64, expected);
  Picture out = Picture::blank(32, 64);
  Resizer(40, 50, 32, 64).apply(padded.data(), 192, out.rgb);
  expect_same(out, expected, "padded rows");
  // By parts, from a place that is used again.
  std::vector<std::uint8_t> part(7 * 192 + kRowSlackBytes);
  Resizer resizer(40, 50, 32, 64);
  for (const int first : {14, 0, 7, 21, 28, 35}) {
    const int rows = std::min(7, 40 - first);
    std::copy_n(padded.begin() + first * 192, rows * 192, part.begin());
    resizer.take_rows(first, rows, part.data(), 192);
  }
  out = Picture::blank(32, 64);
  resizer.finish(out.rgb);
  expect_same(out, expected, "by parts");
}

}  // namespace
}  // namespace zoetrope
