// WebP by libwebp: lossy, lossless, with or without alpha (dropped). Of an animation the first frame, laid on its
// canvas.
#include <webp/decode.h>

#include <cstring>
#include <string>

#include "runtime/media/orientation.h"
#include "runtime/media/still.h"

namespace zoetrope::still {
namespace {

std::uint32_t little(Bytes bytes, std::size_t offset, std::size_t n) {
  std::uint32_t value = 0;
  for (std::size_t i = n; i-- > 0;) {
    value = value << 8 | static_cast<std::uint32_t>(bytes[offset + i]);
  }
  return value;
}

struct Layout {
  int height = 0, width = 0;  // of the canvas
  int x = 0, y = 0;           // of the first frame on it
  Bytes frame;                // what libwebp decodes: the whole file, or the first frame's chunks of an animation
  bool animated = false;
  std::optional<int> from_exif, from_xmp;
};

// Walks the RIFF chunks: VP8X and ANMF for the canvas of animations, EXIF and XMP for the orientation.
Layout layout_of(Bytes bytes, const std::string& name) {
  Layout layout;
  WebPBitstreamFeatures features{};
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  if (WebPGetFeatures(data, bytes.size(), &features) != VP8_STATUS_OK) {
    refuse_damaged(name, "WebP", "a header that cannot be read");
  }
  layout.height = features.height;
  layout.width = features.width;
  layout.frame = bytes;
  layout.animated = features.has_animation != 0;
  bool placed = false;
  for (std::size_t at = 12; at + 8 <= bytes.size();) {
    const std::size_t n = little(bytes, at + 4, 4);
    if (n > bytes.size() - at - 8) {
      break;
    }
    const Bytes body = bytes.subspan(at + 8, n);
    const std::string_view type(reinterpret_cast<const char*>(bytes.data()) + at, 4);
    if (type == "EXIF" && !layout.from_exif) {
      layout.from_exif = exif_orientation(body);
    } else if (type == "XMP " && !layout.from_xmp) {
      layout.from_xmp = xmp_orientation({reinterpret_cast<const char*>(body.data()), body.size()});
    } else if (type == "ANMF" && layout.animated && !placed && n >= 16) {
      layout.x = static_cast<int>(little(body, 0, 3)) * 2;
      layout.y = static_cast<int>(little(body, 3, 3)) * 2;
      layout.frame = body.subspan(16);
      placed = true;
    }
    at += 8 + n + (n & 1);
  }
  if (layout.animated && !placed) {
    refuse_damaged(name, "WebP", "an animation without frames");
  }
  return layout;
}

}  // namespace

StillFacts webp_facts(Bytes bytes, const std::string& name) {
  const Layout layout = layout_of(bytes, name);
  StillFacts facts{.format = StillFormat::kWebp, .height = layout.height, .width = layout.width};
  facts.orientation = layout.from_exif.value_or(layout.from_xmp.value_or(kUpright));
  if (layout.animated) {
    facts.notes.push_back("an animation: only its first frame is used");
  }
  return facts;
}

Picture decode_webp(Bytes bytes, const std::string& name) {
  const Layout layout = layout_of(bytes, name);
  check_picture_size("picture " + name, layout.height, layout.width);
  WebPBitstreamFeatures frame{};
  const auto* data = reinterpret_cast<const std::uint8_t*>(layout.frame.data());
  if (WebPGetFeatures(data, layout.frame.size(), &frame) != VP8_STATUS_OK || frame.width > layout.width - layout.x ||
      frame.height > layout.height - layout.y) {
    refuse_damaged(name, "WebP", "a first frame that does not fit its canvas");
  }
  Picture picture = Picture::blank(layout.height, layout.width);
  const std::size_t stride = static_cast<std::size_t>(layout.width) * 3;
  const std::size_t start = static_cast<std::size_t>(layout.y) * stride + static_cast<std::size_t>(layout.x) * 3;
  if (WebPDecodeRGBInto(data, layout.frame.size(), picture.rgb.data() + start, picture.rgb.size() - start,
                        static_cast<int>(stride)) == nullptr) {
    refuse_damaged(name, "WebP", "data that cannot be decoded or ends too early");
  }
  return picture;
}

}  // namespace zoetrope::still
