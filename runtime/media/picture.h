// A decoded picture: 8-bit RGB rows from the top, no padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace zoetrope {

struct Picture {
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> rgb;  // [height, width, 3]

  static Picture blank(int height, int width) {
    return {height, width,
            std::vector<std::uint8_t>(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3)};
  }
};

// Limits on what is decoded; checked from the header, before anything of that size is allocated.
constexpr int kPictureSideMax = 16384;
constexpr std::int64_t kPicturePixelsMax = std::int64_t{1} << 28;

// Throws Error naming `what` when a picture of this size must not be decoded.
void check_picture_size(const std::string& what, std::int64_t height, std::int64_t width);

}  // namespace zoetrope
