// Still pictures: JPEG, PNG, WebP, BMP, GIF (first frame), decoded as the reference does (Pillow's convert("RGB"):
// alpha is dropped, not blended; 16-bit grey is clipped to 255; CMYK by Adobe's rule), then turned upright by EXIF or
// XMP.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "runtime/media/picture.h"
#include "runtime/media/source.h"

namespace zoetrope {

enum class StillFormat { kJpeg, kPng, kWebp, kBmp, kGif };

// What the header says.
struct StillFacts {
  StillFormat format = StillFormat::kPng;
  int height = 0, width = 0;            // as stored
  int orientation = 1;                  // orientation.h
  std::vector<std::string> notes = {};  // for the media report

  int upright_height() const { return orientation >= 5 ? width : height; }
  int upright_width() const { return orientation >= 5 ? height : width; }
};

StillFacts read_still_facts(const MediaSource& source);

// Throws Error(kRequest): an unknown format, sizes beyond the limits of picture.h, damaged or cut data.
Picture decode_still(const MediaSource& source);

// One decoder each. `name` is what messages call the picture; the result lies as stored, not yet turned.
namespace still {
using Bytes = std::span<const std::byte>;
StillFacts jpeg_facts(Bytes bytes, const std::string& name);
Picture decode_jpeg(Bytes bytes, const std::string& name);
StillFacts png_facts(Bytes bytes, const std::string& name);
Picture decode_png(Bytes bytes, const std::string& name);
StillFacts webp_facts(Bytes bytes, const std::string& name);
Picture decode_webp(Bytes bytes, const std::string& name);
StillFacts gif_facts(Bytes bytes, const std::string& name);
Picture decode_gif(Bytes bytes, const std::string& name);
StillFacts bmp_facts(Bytes bytes, const std::string& name);
Picture decode_bmp(Bytes bytes, const std::string& name);

// "<name>: found <found>, expected a complete <format> picture; ...".
[[noreturn]] void refuse_damaged(const std::string& name, const char* format, std::string found);
}  // namespace still

}  // namespace zoetrope
