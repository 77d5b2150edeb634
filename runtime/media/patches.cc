#include "runtime/media/patches.h"

#include <array>
#include <cstddef>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

const std::array<float, 256>& normalised() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (int v = 0; v < 256; ++v) {
      values[static_cast<std::size_t>(v)] = (static_cast<float>(v) - 127.5F) / 127.5F;
    }
    return values;
  }();
  return table;
}

// Patch (row, column) of the frame, one of its two times: 3 x 16 x 16 values, channel planes `2*16*16` apart in `out`.
template <typename T, typename Value>
void write_patch(const std::uint8_t* frame, int width, int row, int column, T* out, const Value& value) {
  constexpr std::ptrdiff_t kPlane = std::ptrdiff_t{kTemporalPatch} * kPatchSide * kPatchSide;
  for (int y = 0; y < kPatchSide; ++y) {
    const std::uint8_t* p =
        frame + ((static_cast<std::ptrdiff_t>(row) * kPatchSide + y) * width + column * kPatchSide) * 3;
    for (int x = 0; x < kPatchSide; ++x, p += 3, ++out) {
      out[0] = value(p[0]);
      out[kPlane] = value(p[1]);
      out[2 * kPlane] = value(p[2]);
    }
  }
}

template <typename T, typename Value>
void write_pair(std::span<const std::uint8_t> frame0, std::span<const std::uint8_t> frame1, int height, int width,
                std::span<T> out, const Value& value) {
  const auto pixels = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  check(height > 0 && width > 0 && height % (kPatchSide * kMergeSide) == 0 && width % (kPatchSide * kMergeSide) == 0,
        "resized sides are multiples of 32");
  check_eq(frame0.size(), pixels * 3, "bytes of the first frame");
  check_eq(frame1.size(), pixels * 3, "bytes of the second frame");
  check_eq(out.size(), pixels * 3 * kTemporalPatch, "values of one temporal pair");
  T* row = out.data();
  for (int bh = 0; bh < height / kPatchSide; bh += kMergeSide) {
    for (int bw = 0; bw < width / kPatchSide; bw += kMergeSide) {
      for (int k = 0; k < kMergeSide * kMergeSide; ++k, row += kPatchColumns) {
        const int patch_row = bh + k / kMergeSide;
        const int patch_column = bw + k % kMergeSide;
        write_patch(frame0.data(), width, patch_row, patch_column, row, value);
        write_patch(frame1.data(), width, patch_row, patch_column, row + kPatchSide * kPatchSide, value);
      }
    }
  }
}

}  // namespace

void write_patches(std::span<const std::uint8_t> frame0, std::span<const std::uint8_t> frame1, int height, int width,
                   std::span<float> out) {
  const auto& table = normalised();
  write_pair(frame0, frame1, height, width, out, [&](std::uint8_t v) { return table[v]; });
}

void write_patches_u8(std::span<const std::uint8_t> frame0, std::span<const std::uint8_t> frame1, int height, int width,
                      std::span<std::uint8_t> out) {
  write_pair(frame0, frame1, height, width, out, [](std::uint8_t v) { return v; });
}

}  // namespace zoetrope
