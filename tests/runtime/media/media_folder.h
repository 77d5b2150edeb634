// Golden files and real media of the media tests, and small comparisons that say where two pictures part.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "monitoring/error.h"
#include "runtime/json/json.h"
#include "runtime/media/picture.h"
#include "tests/golden/tally.h"
#include "tests/golden_folder.h"

namespace zoetrope::test {

inline std::filesystem::path preprocess(const std::string& file) { return golden_folder() / "preprocess" / file; }

inline json::Value rows_of(const std::string& file) {
  const json::Value value = json::parse_file(preprocess(file), Radius::kStartup);  // exact doubles
  compared(preprocess(file), leaves(value));
  return value.as_object().at("rows");
}

// "goldens/media/wide.png" and "media/real_image_1.png" as the golden files name them.
inline std::filesystem::path named_media(const std::string& label) {
  return label.starts_with("goldens/") ? golden_folder() / label.substr(8) : beside_goldens(label);
}

// [3, H, W] -> [H, W, 3]
inline Picture from_planes(std::span<const std::uint8_t> planes, int height, int width) {
  Picture picture = Picture::blank(height, width);
  const std::size_t pixels = picture.rgb.size() / 3;
  for (std::size_t i = 0; i < pixels; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      picture.rgb[3 * i + c] = planes[c * pixels + i];
    }
  }
  return picture;
}

inline std::vector<std::uint8_t> to_planes(const Picture& picture) {
  std::vector<std::uint8_t> planes(picture.rgb.size());
  const std::size_t pixels = planes.size() / 3;
  for (std::size_t i = 0; i < planes.size(); ++i) {
    planes[i % 3 * pixels + i / 3] = picture.rgb[i];
  }
  return planes;
}

// The rectangle of `whole` that begins at its top left corner.
inline Picture corner(const Picture& whole, int height, int width) {
  Picture part = Picture::blank(height, width);
  for (int y = 0; y < height; ++y) {
    const auto row = whole.rgb.begin() + static_cast<std::ptrdiff_t>(y) * whole.width * 3;
    std::copy(row, row + static_cast<std::ptrdiff_t>(width) * 3,
              part.rgb.begin() + static_cast<std::ptrdiff_t>(y) * width * 3);
  }
  return part;
}

inline void expect_same(const Picture& got, const Picture& expected, const std::string& what) {
  ASSERT_EQ(got.height, expected.height) << what;
  ASSERT_EQ(got.width, expected.width) << what;
  ASSERT_EQ(got.rgb.size(), expected.rgb.size()) << what;
  std::size_t different = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < got.rgb.size(); ++i) {
    if (got.rgb[i] != expected.rgb[i]) {
      first = different++ == 0 ? i : first;
    }
  }
  const auto row = static_cast<std::size_t>(got.width) * 3;
  EXPECT_EQ(different, 0U) << what << ": of " << got.rgb.size() << " values; the first at row " << first / row
                           << " column " << first % row / 3 << " channel " << first % 3 << ": " << int{got.rgb[first]}
                           << " against " << int{expected.rgb[first]};
}

// The message with which `body` refuses; fails the test when it does not.
inline std::string refusal(const std::function<void()>& body, Radius radius = Radius::kRequest) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), radius) << error.what();
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

inline std::vector<std::byte> file_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  EXPECT_FALSE(text.empty()) << path;
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

}  // namespace zoetrope::test
