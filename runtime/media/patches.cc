#include "runtime/media/patches.h"

#include <cstddef>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

// Patch (row, column) of the frame, one of its two times: 3 x 16 x 16 values, channel planes `2*16*16` apart in `out`.
void write_patch(const std::uint8_t* frame, int width, int row, int column, std::uint8_t* out) {
  constexpr std::ptrdiff_t kPlane = std::ptrdiff_t{kTemporalPatch} * kPatchSide * kPatchSide;
  for (int y = 0; y < kPatchSide; ++y) {
    const std::uint8_t* p =
        frame + ((static_cast<std::ptrdiff_t>(row) * kPatchSide + y) * width + column * kPatchSide) * 3;
    for (int x = 0; x < kPatchSide; ++x, p += 3, ++out) {
      out[0] = p[0];
      out[kPlane] = p[1];
      out[2 * kPlane] = p[2];
    }
  }
}

}  // namespace

void write_patches(std::span<const std::uint8_t> frame0, std::span<const std::uint8_t> frame1, int height, int width,
                   std::span<std::uint8_t> out) {
  const auto pixels = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  check(height > 0 && width > 0 && height % (kPatchSide * kMergeSide) == 0 && width % (kPatchSide * kMergeSide) == 0,
        "resized sides are multiples of 32");
  check_eq(frame0.size(), pixels * 3, "bytes of the first frame");
  check_eq(frame1.size(), pixels * 3, "bytes of the second frame");
  check_eq(out.size(), pixels * 3 * kTemporalPatch, "values of one temporal pair");
  std::uint8_t* row = out.data();
  for (int bh = 0; bh < height / kPatchSide; bh += kMergeSide) {
    for (int bw = 0; bw < width / kPatchSide; bw += kMergeSide) {
      for (int k = 0; k < kMergeSide * kMergeSide; ++k, row += kPatchColumns) {
        const int patch_row = bh + k / kMergeSide;
        const int patch_column = bw + k % kMergeSide;
        write_patch(frame0.data(), width, patch_row, patch_column, row);
        write_patch(frame1.data(), width, patch_row, patch_column, row + kPatchSide * kPatchSide);
      }
    }
  }
}

void normalise_patches(std::span<const std::uint8_t> bytes, std::span<float> out) {
  check_eq(bytes.size(), out.size(), "a value for every byte");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    out[i] = (static_cast<float>(bytes[i]) - 127.5F) / 127.5F;
  }
}

}  // namespace zoetrope
