// Windows bitmaps: 1, 4, 8, 16, 24 and 32 bits, plain, bit fields, RLE8 and RLE4. Read by hand, as the reference's
// reader.
#include <fmt/format.h>

#include <array>
#include <string>

#include "runtime/media/still.h"

namespace zoetrope::still {
namespace {

enum Compression : std::uint32_t { kPlain = 0, kRle8 = 1, kRle4 = 2, kBitFields = 3 };

class BmpDecoder {
 public:
  BmpDecoder(Bytes bytes, const std::string& name) : bytes_(bytes), name_(name) {
    pixels_at_ = little(10, 4);
    const std::uint32_t header = little(14, 4);
    if (header == 12) {
      width_ = little(18, 2);
      height_ = little(20, 2);
      bits_ = little(24, 2);
      palette_at_ = 26;
      palette_stride_ = 3;
      colours_ = bits_ <= 8 ? 1U << bits_ : 0;
    } else if (header == 40 || header == 52 || header == 56 || header == 64 || header == 108 || header == 124) {
      read_modern_header(header);
    } else {
      refuse_damaged(name_, "BMP", fmt::format("a header of {} bytes", header));
    }
    if (bits_ != 1 && bits_ != 4 && bits_ != 8 && bits_ != 16 && bits_ != 24 && bits_ != 32) {
      refuse_damaged(name_, "BMP", fmt::format("{} bits a pixel", bits_));
    }
    const bool fits = compression_ == kPlain || (compression_ == kRle8 && bits_ == 8) ||
                      (compression_ == kRle4 && bits_ == 4) ||
                      (compression_ == kBitFields && (bits_ == 16 || bits_ == 32));
    if (!fits) {
      refuse_damaged(name_, "BMP", fmt::format("compression {} with {} bits a pixel", compression_, bits_));
    }
    read_palette();
  }

  std::int64_t height() const { return height_; }
  std::int64_t width() const { return width_; }

  Picture decode() {
    Picture picture = Picture::blank(static_cast<int>(height_), static_cast<int>(width_));
    if (compression_ == kRle8 || compression_ == kRle4) {
      const std::vector<std::uint8_t> indices = unpacked();
      for (int y = 0; y < picture.height; ++y) {
        std::uint8_t* out = row_of(picture, y);
        for (int x = 0; x < picture.width; ++x, out += 3) {
          write(out, palette_[indices[static_cast<std::size_t>(y) * static_cast<std::size_t>(picture.width) +
                                      static_cast<std::size_t>(x)]]);
        }
      }
      return picture;
    }
    const std::uint64_t stride = (static_cast<std::uint64_t>(width_) * bits_ + 31) / 32 * 4;
    if (pixels_at_ > bytes_.size() || stride * static_cast<std::uint64_t>(height_) > bytes_.size() - pixels_at_) {
      refuse_damaged(name_, "BMP",
                     fmt::format("{} bytes where {} x {} pixels need {}", bytes_.size(), width_, height_,
                                 pixels_at_ + stride * static_cast<std::uint64_t>(height_)));
    }
    for (int y = 0; y < picture.height; ++y) {
      read_row(pixels_at_ + static_cast<std::size_t>(y) * stride, picture.width, row_of(picture, y));
    }
    return picture;
  }

 private:
  using Colour = std::array<std::uint8_t, 3>;

  std::uint32_t little(std::size_t offset, std::size_t n) const {
    if (n > bytes_.size() || offset > bytes_.size() - n) {
      refuse_damaged(name_, "BMP", fmt::format("{} bytes, too few for its header", bytes_.size()));
    }
    std::uint32_t value = 0;
    for (std::size_t i = n; i-- > 0;) {
      value = value << 8 | static_cast<std::uint32_t>(bytes_[offset + i]);
    }
    return value;
  }

  void read_modern_header(std::uint32_t header) {
    width_ = static_cast<std::int32_t>(little(18, 4));
    const auto signed_height = static_cast<std::int32_t>(little(22, 4));
    top_down_ = signed_height < 0;
    height_ = top_down_ ? -std::int64_t{signed_height} : signed_height;
    bits_ = little(28, 2);
    compression_ = little(30, 4);
    const std::uint32_t colours = little(46, 4);
    colours_ = bits_ > 8 ? 0 : colours == 0 || colours > (1U << bits_) ? 1U << bits_ : colours;
    palette_at_ = 14 + header;
    palette_stride_ = 4;
    if (compression_ == kBitFields) {
      for (std::size_t c = 0; c < 3; ++c) {
        masks_[c] = little(54 + 4 * c, 4);
      }
      palette_at_ += header == 40 ? 12 : 0;
    } else if (bits_ == 16) {
      masks_ = {0x7c00, 0x03e0, 0x001f};
    } else {
      masks_ = {0xff0000, 0x00ff00, 0x0000ff};
    }
    for (const std::uint32_t mask : masks_) {
      const std::uint32_t low = mask & (~mask + 1);
      if (mask == 0 || ((mask / low) & (mask / low + 1)) != 0) {
        refuse_damaged(name_, "BMP", fmt::format("the colour mask {:#x}", mask));
      }
    }
  }

  void read_palette() {
    for (std::size_t i = 0; i < palette_.size(); ++i) {  // indices beyond the palette are grey levels in the reference
      palette_[i].fill(static_cast<std::uint8_t>(i));
    }
    for (std::size_t i = 0; i < colours_; ++i) {
      const std::uint32_t bgr = little(palette_at_ + i * palette_stride_, 3);
      palette_[i] = {static_cast<std::uint8_t>(bgr >> 16), static_cast<std::uint8_t>(bgr >> 8),
                     static_cast<std::uint8_t>(bgr)};
    }
  }

  std::uint8_t* row_of(Picture& picture, int stored_row) const {
    const int y = top_down_ ? stored_row : picture.height - 1 - stored_row;
    return picture.rgb.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(picture.width) * 3;
  }

  static void write(std::uint8_t* out, const Colour& colour) {
    out[0] = colour[0];
    out[1] = colour[1];
    out[2] = colour[2];
  }

  std::uint8_t channel(std::uint32_t pixel, std::uint32_t mask) const {
    const std::uint32_t low = mask & (~mask + 1);
    const std::uint64_t most = mask / low;
    return static_cast<std::uint8_t>((pixel & mask) / low * std::uint64_t{255} / most);
  }

  void read_row(std::size_t at, int width, std::uint8_t* out) const {
    for (int x = 0; x < width; ++x, out += 3) {
      const auto column = static_cast<std::size_t>(x);
      if (bits_ <= 8) {
        const std::size_t bit = column * bits_;
        const auto byte = static_cast<std::uint32_t>(bytes_[at + bit / 8]);
        write(out, palette_[byte >> (8 - bits_ - bit % 8) & ((1U << bits_) - 1)]);
      } else if (bits_ == 24) {
        const std::size_t p = at + column * 3;
        write(out, {static_cast<std::uint8_t>(bytes_[p + 2]), static_cast<std::uint8_t>(bytes_[p + 1]),
                    static_cast<std::uint8_t>(bytes_[p])});
      } else {
        const std::uint32_t pixel = little(at + column * (bits_ / 8), bits_ / 8);
        write(out, {channel(pixel, masks_[0]), channel(pixel, masks_[1]), channel(pixel, masks_[2])});
      }
    }
  }

  std::uint32_t byte_at(std::size_t at) const {
    if (at >= bytes_.size()) {
      refuse_damaged(name_, "BMP", "run-length data that ends before the picture does");
    }
    return static_cast<std::uint32_t>(bytes_[at]);
  }

  // Run-length data -> one index per pixel in stored row order; what it leaves out stays 0.
  std::vector<std::uint8_t> unpacked() const {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_));
    std::int64_t x = 0;
    std::int64_t y = 0;
    const auto put = [&](std::uint32_t index) {
      if (x < width_ && y < height_) {
        out[static_cast<std::size_t>(y * width_ + x)] = static_cast<std::uint8_t>(index);
      }
      ++x;
    };
    const bool nibbles = compression_ == kRle4;
    std::size_t at = pixels_at_;
    while (y < height_) {
      const std::uint32_t count = byte_at(at);
      const std::uint32_t value = byte_at(at + 1);
      at += 2;
      if (count != 0) {
        for (std::uint32_t i = 0; i < count; ++i) {
          put(!nibbles ? value : i % 2 == 0 ? value >> 4 : value & 15);
        }
      } else if (value == 0) {  // end of line
        x = 0;
        ++y;
      } else if (value == 1) {  // end of picture
        break;
      } else if (value == 2) {  // move
        x += byte_at(at);
        y += byte_at(at + 1);
        at += 2;
      } else {  // `value` pixels as they are, padded to 16 bits
        for (std::uint32_t i = 0; i < value; ++i) {
          const std::uint32_t byte = byte_at(at + (nibbles ? i / 2 : i));
          put(!nibbles ? byte : i % 2 == 0 ? byte >> 4 : byte & 15);
        }
        const std::uint32_t used = nibbles ? (value + 1) / 2 : value;
        at += used + used % 2;
      }
    }
    return out;
  }

  Bytes bytes_;
  const std::string& name_;
  std::int64_t height_ = 0, width_ = 0;
  bool top_down_ = false;
  std::uint32_t bits_ = 0, compression_ = kPlain, colours_ = 0;
  std::size_t pixels_at_ = 0, palette_at_ = 0, palette_stride_ = 4;
  std::array<std::uint32_t, 3> masks_ = {0xff0000, 0x00ff00, 0x0000ff};
  std::array<Colour, 256> palette_{};
};

}  // namespace

StillFacts bmp_facts(Bytes bytes, const std::string& name) {
  const BmpDecoder decoder(bytes, name);
  check_picture_size("picture " + name, decoder.height(), decoder.width());
  return {.format = StillFormat::kBmp,
          .height = static_cast<int>(decoder.height()),
          .width = static_cast<int>(decoder.width())};
}

Picture decode_bmp(Bytes bytes, const std::string& name) {
  BmpDecoder decoder(bytes, name);
  check_picture_size("picture " + name, decoder.height(), decoder.width());
  return decoder.decode();
}

}  // namespace zoetrope::still
