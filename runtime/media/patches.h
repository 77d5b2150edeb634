// From resized frames to the rows that the vision tower multiplies: the order of the reference processor.
#pragma once

#include <cstdint>
#include <span>

namespace zoetrope {

constexpr int kPatchSide = 16;                                               // pixels
constexpr int kMergeSide = 2;                                                // patches
constexpr int kTemporalPatch = 2;                                            // frames
constexpr int kPatchColumns = 3 * kTemporalPatch * kPatchSide * kPatchSide;  // 1536

// One temporal pair: two frames [height, width, 3], both sides multiples of 32 (an image is given twice). Row r of
// `out` [height/16 * width/16, 1536] is a patch; four consecutive rows are one 2x2 merge block, blocks in raster order.
// Column c = ((channel*2 + frame)*16 + y)*16 + x. Bytes as they are: a quarter of the memory while they wait.
void write_patches(std::span<const std::uint8_t> frame0, std::span<const std::uint8_t> frame1, int height, int width,
                   std::span<std::uint8_t> out);

// What the vision tower multiplies: (u8 - 127.5) / 127.5 in fp32, value by value.
void normalise_patches(std::span<const std::uint8_t> bytes, std::span<float> out);

}  // namespace zoetrope
