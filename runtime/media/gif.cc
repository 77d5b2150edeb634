// The first frame of a GIF by giflib, laid on the logical screen as the reference's reader does.
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "runtime/media/still.h"

namespace zoetrope::still {
namespace {

class GifDecoder {
 public:
  GifDecoder(Bytes bytes, const std::string& name) : bytes_(bytes), name_(name) {
    int error = 0;
    gif_ = DGifOpen(this, read_bytes, &error);
    if (gif_ == nullptr) {
      fail(error);
    }
    try {
      find_first_frame();
    } catch (...) {
      close();
      throw;
    }
  }
  ~GifDecoder() { close(); }
  GifDecoder(const GifDecoder&) = delete;
  GifDecoder& operator=(const GifDecoder&) = delete;

  // The screen grows to hold the first frame.
  int height() const { return std::max(gif_->SHeight, gif_->Image.Top + gif_->Image.Height); }
  int width() const { return std::max(gif_->SWidth, gif_->Image.Left + gif_->Image.Width); }

  Picture decode() {
    Picture picture = Picture::blank(height(), width());
    const auto colours = palette();
    const auto& ground = colours[transparent_ >= 0 ? static_cast<std::size_t>(transparent_) : 0];
    for (std::size_t i = 0; i < picture.rgb.size(); i += 3) {
      std::copy(ground.begin(), ground.end(), picture.rgb.begin() + static_cast<std::ptrdiff_t>(i));
    }
    const GifImageDesc& frame = gif_->Image;
    std::vector<GifPixelType> line(static_cast<std::size_t>(frame.Width));
    static constexpr std::array<std::array<int, 2>, 5> kPasses = {{{0, 8}, {4, 8}, {2, 4}, {1, 2}, {0, 1}}};
    const std::size_t pass_first = frame.Interlace ? 0 : 4;
    const std::size_t pass_end = frame.Interlace ? 4 : 5;
    for (std::size_t pass = pass_first; pass < pass_end; ++pass) {
      for (int y = kPasses[pass][0]; y < frame.Height; y += kPasses[pass][1]) {
        if (DGifGetLine(gif_, line.data(), frame.Width) == GIF_ERROR) {
          fail(gif_->Error);
        }
        std::uint8_t* out =
            picture.rgb.data() + (static_cast<std::size_t>(frame.Top + y) * static_cast<std::size_t>(picture.width) +
                                  static_cast<std::size_t>(frame.Left)) *
                                     3;
        for (const GifPixelType v : line) {
          out = std::copy(colours[v].begin(), colours[v].end(), out);
        }
      }
    }
    return picture;
  }

 private:
  using Colour = std::array<std::uint8_t, 3>;

  static int read_bytes(GifFileType* gif, GifByteType* out, int n) {
    auto* self = static_cast<GifDecoder*>(gif->UserData);
    const std::size_t take = std::min(static_cast<std::size_t>(std::max(n, 0)), self->bytes_.size() - self->at_);
    std::memcpy(out, self->bytes_.data() + self->at_, take);
    self->at_ += take;
    return static_cast<int>(take);
  }

  void find_first_frame() {
    for (;;) {
      GifRecordType record = UNDEFINED_RECORD_TYPE;
      if (DGifGetRecordType(gif_, &record) == GIF_ERROR) {
        fail(gif_->Error);
      }
      if (record == IMAGE_DESC_RECORD_TYPE) {
        if (DGifGetImageHeader(gif_) == GIF_ERROR) {
          fail(gif_->Error);
        }
        return;
      }
      if (record == TERMINATE_RECORD_TYPE) {
        refuse_damaged(name_, "GIF", "no picture in it");
      }
      if (record == EXTENSION_RECORD_TYPE) {
        read_extension();
      }
    }
  }

  void read_extension() {
    int code = 0;
    GifByteType* block = nullptr;  // [0] is its length
    if (DGifGetExtension(gif_, &code, &block) == GIF_ERROR) {
      fail(gif_->Error);
    }
    while (block != nullptr) {
      if (code == GRAPHICS_EXT_FUNC_CODE && block[0] >= 4) {
        transparent_ = (block[1] & 1) != 0 ? block[4] : -1;
      }
      if (DGifGetExtensionNext(gif_, &block) == GIF_ERROR) {
        fail(gif_->Error);
      }
    }
  }

  std::array<Colour, 256> palette() const {
    std::array<Colour, 256> colours;
    for (std::size_t i = 0; i < colours.size(); ++i) {  // indices beyond the map are grey levels in the reference
      colours[i].fill(static_cast<std::uint8_t>(i));
    }
    const ColorMapObject* map = gif_->Image.ColorMap != nullptr ? gif_->Image.ColorMap : gif_->SColorMap;
    for (int i = 0; map != nullptr && i < std::min(map->ColorCount, 256); ++i) {
      colours[static_cast<std::size_t>(i)] = {map->Colors[i].Red, map->Colors[i].Green, map->Colors[i].Blue};
    }
    return colours;
  }

  void close() {
    int error = 0;
    DGifCloseFile(gif_, &error);
  }

  [[noreturn]] void fail(int error) const {
    const char* text = GifErrorString(error);
    refuse_damaged(name_, "GIF",
                   std::string("the decoder's complaint \"") + (text == nullptr ? "unreadable" : text) + "\"");
  }

  Bytes bytes_;
  const std::string& name_;
  std::size_t at_ = 0;
  GifFileType* gif_ = nullptr;
  int transparent_ = -1;
};

}  // namespace

StillFacts gif_facts(Bytes bytes, const std::string& name) {
  const GifDecoder decoder(bytes, name);
  return {.format = StillFormat::kGif,
          .height = decoder.height(),
          .width = decoder.width(),
          .notes = {"a GIF: only its first frame is used"}};
}

Picture decode_gif(Bytes bytes, const std::string& name) {
  GifDecoder decoder(bytes, name);
  check_picture_size("picture " + name, decoder.height(), decoder.width());
  return decoder.decode();
}

}  // namespace zoetrope::still
