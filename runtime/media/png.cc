// PNG by libpng. Transparency and gamma are ignored, 16-bit colour keeps its high byte, 16-bit grey is clipped to 255,
// as the reference's reader does.
#include <png.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <stdexcept>
#include <string>

#include "runtime/media/orientation.h"
#include "runtime/media/still.h"

namespace zoetrope::still {
namespace {

constexpr png_alloc_size_t kChunkBytesMax = 8 << 20;  // of text, EXIF and profiles after inflation
constexpr std::uint32_t kChunksMax = 1000;

// libpng's error function may not return. It throws through libpng, which Debian builds with unwind tables; nothing is
// lost on the way because PngDecoder owns both structures.
struct PngFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class PngDecoder {
 public:
  PngDecoder(Bytes bytes, const std::string& name) : bytes_(bytes), name_(name) {
    png_ = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, nullptr, [](png_structp, png_const_charp text) { throw PngFailure(text); },
        [](png_structp, png_const_charp) {});
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
    try {
      guarded([&] {
        png_set_read_fn(png_, this, read_bytes);
        png_set_user_limits(png_, kPictureSideMax, kPictureSideMax);
        png_set_chunk_malloc_max(png_, kChunkBytesMax);
        png_set_chunk_cache_max(png_, kChunksMax);
        png_read_info(png_, info_);
      });
    } catch (...) {
      png_destroy_read_struct(&png_, &info_, nullptr);
      throw;
    }
  }
  ~PngDecoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  int height() const { return static_cast<int>(png_get_image_height(png_, info_)); }
  int width() const { return static_cast<int>(png_get_image_width(png_, info_)); }

  std::optional<int> orientation() const {
    png_bytep exif = nullptr;
    png_uint_32 exif_bytes = 0;
    if (png_get_eXIf_1(png_, info_, &exif_bytes, &exif) != 0 && exif != nullptr) {
      if (const auto found = exif_orientation(std::as_bytes(std::span(exif, exif_bytes)))) {
        return found;
      }
    }
    png_textp texts = nullptr;
    int count = 0;
    png_get_text(png_, info_, &texts, &count);
    std::optional<int> from_xmp;
    for (int i = 0; i < count; ++i) {
      const std::string_view key = texts[i].key;
      const std::string_view text = texts[i].text == nullptr ? std::string_view() : texts[i].text;
      if (key == "Raw profile type exif") {
        if (const auto found = exif_orientation(hexadecimal_profile(text))) {
          return found;
        }
      } else if (key == "XML:com.adobe.xmp") {
        from_xmp = xmp_orientation(text);
      }
    }
    return from_xmp;
  }

  Picture decode() {
    Picture picture = Picture::blank(height(), width());
    guarded([&] { read_rows(picture); });
    return picture;
  }

 private:
  static void read_bytes(png_structp png, png_bytep out, std::size_t n) {
    auto* self = static_cast<PngDecoder*>(png_get_io_ptr(png));
    if (n > self->bytes_.size() - self->at_) {
      throw PngFailure("the data ends too early");
    }
    std::memcpy(out, self->bytes_.data() + self->at_, n);
    self->at_ += n;
  }

  // "\nexif\n   1234\n4578..." as ImageMagick writes it: three lines, then hexadecimal digits.
  static std::vector<std::byte> hexadecimal_profile(std::string_view text) {
    for (int line = 0; line < 3; ++line) {
      const std::size_t end = text.find('\n');
      if (end == std::string_view::npos) {
        return {};
      }
      text.remove_prefix(end + 1);
    }
    std::vector<std::byte> out;
    int high = -1;
    for (const char c : text) {
      const auto u = static_cast<unsigned char>(c);
      if (std::isxdigit(u) != 0) {
        const int digit = std::isdigit(u) != 0 ? u - '0' : std::tolower(u) - 'a' + 10;
        if (high < 0) {
          high = digit;
        } else {
          out.push_back(static_cast<std::byte>(high * 16 + digit));
          high = -1;
        }
      }
    }
    return out;
  }

  void read_rows(Picture& picture) {
    const int type = png_get_color_type(png_, info_);
    const int depth = png_get_bit_depth(png_, info_);
    const bool wide_grey = type == PNG_COLOR_TYPE_GRAY && depth == 16;
    if (depth == 16 && !wide_grey) {
      png_set_strip_16(png_);
    }
    png_set_packing(png_);  // palette indices of 1, 2, 4 bits become bytes
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8) {
      png_set_expand_gray_1_2_4_to_8(png_);
    }
    if ((type & PNG_COLOR_MASK_ALPHA) != 0) {
      png_set_strip_alpha(png_);
    }
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    const std::size_t row_bytes = png_get_rowbytes(png_, info_);
    const auto rows = static_cast<std::size_t>(picture.height);
    const bool rgb = png_get_channels(png_, info_) == 3;
    raw_.resize(rgb ? 0 : row_bytes * rows);
    std::vector<png_bytep> pointers(rows);
    for (std::size_t y = 0; y < rows; ++y) {
      pointers[y] = (rgb ? picture.rgb.data() : raw_.data()) + y * row_bytes;
    }
    png_read_image(png_, pointers.data());
    if (!rgb) {
      widen(picture, type == PNG_COLOR_TYPE_PALETTE, wide_grey);
    }
  }

  void widen(Picture& picture, bool palette, bool wide_grey) {
    std::array<png_color, 256> colours;
    for (std::size_t i = 0; i < colours.size(); ++i) {  // indices beyond the palette are grey levels in the reference
      colours[i] = {static_cast<png_byte>(i), static_cast<png_byte>(i), static_cast<png_byte>(i)};
    }
    png_colorp given = nullptr;
    int count = 0;
    if (palette && png_get_PLTE(png_, info_, &given, &count) != 0) {
      std::copy_n(given, std::clamp(count, 0, 256), colours.begin());
    }
    const std::size_t pixels = picture.rgb.size() / 3;
    for (std::size_t i = 0; i < pixels; ++i) {
      const std::size_t value = wide_grey ? (raw_[2 * i] != 0 ? 255 : raw_[2 * i + 1]) : raw_[i];
      picture.rgb[3 * i] = colours[value].red;
      picture.rgb[3 * i + 1] = colours[value].green;
      picture.rgb[3 * i + 2] = colours[value].blue;
    }
  }

  template <typename Body>
  void guarded(const Body& body) {
    try {
      body();
    } catch (const PngFailure& failure) {
      refuse_damaged(name_, "PNG", std::string("the decoder's complaint \"") + failure.what() + "\"");
    }
  }

  Bytes bytes_;
  const std::string& name_;
  std::size_t at_ = 0;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::vector<std::uint8_t> raw_;
};

// The orientation may stand behind the pixels: the body of the first chunk of `type` whose body begins with `start`.
std::optional<Bytes> chunk_body(Bytes bytes, std::string_view type, std::string_view start) {
  for (std::size_t at = 8; at + 12 <= bytes.size();) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      n = n << 8 | static_cast<std::size_t>(bytes[at + i]);
    }
    if (n > bytes.size() - at - 12) {
      return std::nullopt;
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + at, n + 8);
    if (text.substr(4, 4) == type && text.substr(8).starts_with(start)) {
      return bytes.subspan(at + 8, n);
    }
    at += 12 + n;
  }
  return std::nullopt;
}

std::optional<int> orientation_behind_pixels(Bytes bytes) {
  if (const auto exif = chunk_body(bytes, "eXIf", "")) {
    if (const auto found = exif_orientation(*exif)) {
      return found;
    }
  }
  const auto xmp = chunk_body(bytes, "iTXt", "XML:com.adobe.xmp");
  return xmp ? xmp_orientation({reinterpret_cast<const char*>(xmp->data()), xmp->size()}) : std::nullopt;
}

}  // namespace

StillFacts png_facts(Bytes bytes, const std::string& name) {
  const PngDecoder decoder(bytes, name);
  check_picture_size("picture " + name, decoder.height(), decoder.width());
  StillFacts facts{.format = StillFormat::kPng, .height = decoder.height(), .width = decoder.width()};
  const auto orientation = decoder.orientation();
  facts.orientation = orientation ? *orientation : orientation_behind_pixels(bytes).value_or(kUpright);
  return facts;
}

Picture decode_png(Bytes bytes, const std::string& name) {
  PngDecoder decoder(bytes, name);
  check_picture_size("picture " + name, decoder.height(), decoder.width());
  return decoder.decode();
}

}  // namespace zoetrope::still
