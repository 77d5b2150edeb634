// The eight ways a picture can lie, numbered as in EXIF: 1 upright, 3 upside down, 6 must be turned clockwise, 8
// counter- clockwise; 2, 4, 5, 7 are the mirrored ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "runtime/media/picture.h"

namespace zoetrope {

constexpr int kUpright = 1;

constexpr bool swaps_sides(int orientation) { return orientation >= 5; }

// `in` [height, width, 3] with rows of `stride_bytes`, turned upright.
Picture turned(const std::uint8_t* in, int height, int width, std::ptrdiff_t stride_bytes, int orientation);

// Tag 0x0112 of the first directory of a TIFF structure ("II*\0" or "MM\0*"), with or without "Exif\0\0" before it.
// Nothing when absent, unreadable or not 1..8.
std::optional<int> exif_orientation(std::span<const std::byte> exif);

// tiff:Orientation in an XMP packet; read where EXIF says nothing, as Pillow does.
std::optional<int> xmp_orientation(std::string_view xmp);

// The orientation of a film's 3x3 display matrix (16.16 fixed point, row-major); nothing for angles that are no
// multiple of 90 degrees.
std::optional<int> matrix_orientation(std::span<const std::int32_t, 9> matrix);

// Degrees clockwise, for reports: 6 -> 90, 3 -> 180, 8 -> 270. Mirrored ones as their turn.
int clockwise_degrees(int orientation);

}  // namespace zoetrope
