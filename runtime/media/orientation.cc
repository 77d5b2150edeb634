#include "runtime/media/orientation.h"

#include <array>
#include <cmath>
#include <cstring>

namespace zoetrope {
namespace {

// Reads 16- and 32-bit numbers of either byte order; zero beyond the end is never used: `holds` is asked first.
class TiffView {
 public:
  explicit TiffView(std::span<const std::byte> bytes) : bytes_(bytes) {
    big_endian_ = bytes.size() >= 2 && bytes[0] == std::byte{'M'};
  }
  bool holds(std::size_t offset, std::size_t n) const { return n <= bytes_.size() && offset <= bytes_.size() - n; }
  std::uint32_t number(std::size_t offset, std::size_t n) const {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < n; ++i) {
      value = value << 8 | static_cast<std::uint32_t>(bytes_[offset + (big_endian_ ? i : n - 1 - i)]);
    }
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  bool big_endian_ = false;
};

std::optional<int> valid(std::uint32_t orientation) {
  return orientation >= 1 && orientation <= 8 ? std::optional(static_cast<int>(orientation)) : std::nullopt;
}

struct Turn {
  bool swap;      // rows of the result run along columns of the source
  bool flip_row;  // after the swap: the result's row index counts from the source's end
  bool flip_column;
};

constexpr std::array<Turn, 9> kTurns = {{
    {false, false, false},  // 0: unused
    {false, false, false},
    {false, false, true},
    {false, true, true},
    {false, true, false},
    {true, false, false},
    {true, false, true},
    {true, true, true},
    {true, true, false},
}};

}  // namespace

// With swap, result (y, x) comes from source (row = x or its mirror, column = y or its mirror).
Picture turned(const std::uint8_t* in, int height, int width, std::ptrdiff_t stride_bytes, int orientation) {
  const Turn turn = kTurns[static_cast<std::size_t>(orientation)];
  Picture out = turn.swap ? Picture::blank(width, height) : Picture::blank(height, width);
  std::uint8_t* to = out.rgb.data();
  if (orientation == kUpright) {
    for (int y = 0; y < height; ++y, to += static_cast<std::ptrdiff_t>(width) * 3) {
      std::memcpy(to, in + y * stride_bytes, static_cast<std::size_t>(width) * 3);
    }
    return out;
  }
  const std::ptrdiff_t step = turn.swap ? stride_bytes : 3;      // along a row of the result
  const std::ptrdiff_t row_step = turn.swap ? 3 : stride_bytes;  // from row to row of the result
  for (int y = 0; y < out.height; ++y) {
    const int row = turn.flip_row ? out.height - 1 - y : y;
    const std::uint8_t* from = in + row * row_step + (turn.flip_column ? (out.width - 1) * step : 0);
    for (int x = 0; x < out.width; ++x, to += 3, from += turn.flip_column ? -step : step) {
      to[0] = from[0];
      to[1] = from[1];
      to[2] = from[2];
    }
  }
  return out;
}

std::optional<int> exif_orientation(std::span<const std::byte> exif) {
  if (exif.size() >= 6 && std::memcmp(exif.data(), "Exif\0\0", 6) == 0) {
    exif = exif.subspan(6);
  }
  const TiffView tiff(exif);
  if (!tiff.holds(0, 8) || tiff.number(2, 2) != 42 ||
      (std::memcmp(exif.data(), "II", 2) != 0 && std::memcmp(exif.data(), "MM", 2) != 0)) {
    return std::nullopt;
  }
  const std::size_t directory = tiff.number(4, 4);
  if (!tiff.holds(directory, 2)) {
    return std::nullopt;
  }
  const std::size_t entries = tiff.number(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + i * 12;
    if (!tiff.holds(entry, 12)) {
      return std::nullopt;
    }
    if (tiff.number(entry, 2) == 0x0112) {
      const std::uint32_t type = tiff.number(entry + 2, 2);  // 3 SHORT, 4 LONG
      return type == 3 || type == 4 ? valid(tiff.number(entry + 8, type == 3 ? 2 : 4)) : std::nullopt;
    }
  }
  return std::nullopt;
}

std::optional<int> xmp_orientation(std::string_view xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (std::size_t at = xmp.find(kName); at != std::string_view::npos; at = xmp.find(kName, at + 1)) {
    std::string_view rest = xmp.substr(at + kName.size());
    const std::size_t skip = rest.starts_with("=\"") ? 2 : rest.starts_with('>') ? 1 : 0;
    if (skip != 0 && rest.size() > skip && rest[skip] >= '0' && rest[skip] <= '9') {
      return valid(static_cast<std::uint32_t>(rest[skip] - '0'));
    }
  }
  return std::nullopt;
}

std::optional<int> matrix_orientation(std::span<const std::int32_t, 9> matrix) {
  // x' = a x + c y, y' = b x + d y (QuickTime file format, "Matrices"); scale is taken out by the larger of a and b.
  const double a = matrix[0];
  const double b = matrix[1];
  const double c = matrix[3];
  const double d = matrix[4];
  const double first = std::hypot(a, b);
  const double second = std::hypot(c, d);
  if (first == 0 || second == 0) {
    return std::nullopt;
  }
  const auto side = [](double value, double scale) {
    const double r = value / scale;
    return std::abs(r) < 0.01 ? 0 : std::abs(r - 1) < 0.01 ? 1 : std::abs(r + 1) < 0.01 ? -1 : 9;
  };
  struct Case {
    int a, b, c, d, orientation;
  };
  static constexpr std::array<Case, 8> kCases = {{{1, 0, 0, 1, 1},
                                                  {-1, 0, 0, 1, 2},
                                                  {-1, 0, 0, -1, 3},
                                                  {1, 0, 0, -1, 4},
                                                  {0, 1, 1, 0, 5},
                                                  {0, 1, -1, 0, 6},
                                                  {0, -1, -1, 0, 7},
                                                  {0, -1, 1, 0, 8}}};
  for (const Case& k : kCases) {
    if (k.a == side(a, first) && k.b == side(b, first) && k.c == side(c, second) && k.d == side(d, second)) {
      return k.orientation;
    }
  }
  return std::nullopt;
}

int clockwise_degrees(int orientation) {
  static constexpr std::array<int, 9> kDegrees = {0, 0, 0, 180, 180, 90, 90, 270, 270};
  return kDegrees[static_cast<std::size_t>(orientation)];
}

}  // namespace zoetrope
