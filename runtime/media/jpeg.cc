// JPEG by libjpeg-turbo with its default settings (accurate integer DCT, smooth chroma upsampling): the reference's
// pixels.
#include <cstdio>  // jpeglib.h needs FILE and size_t before it

#include <jpeglib.h>

#include <jerror.h>

#include <csetjmp>
#include <cstring>
#include <string>

#include "runtime/media/orientation.h"
#include "runtime/media/still.h"

namespace zoetrope::still {
namespace {

// libjpeg's error exit must not return; it jumps back into JpegDecoder::guarded.
struct Errors {
  jpeg_error_mgr manager;
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX];
  bool cut = false;  // the data ended before the picture did
};

void leave(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->back, 1);
}

void note_warning(j_common_ptr info, int level) {
  if (level < 0) {
    ++info->err->num_warnings;
    reinterpret_cast<Errors*>(info->err)->cut |= info->err->msg_code == JWRN_JPEG_EOF;
  }
}

// Progressive files may hold any number of scans, each as costly as the picture.
constexpr int kScansMax = 500;

void check_scans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kScansMax) {
    std::strcpy(reinterpret_cast<Errors*>(info->err)->message, "more than 500 scans");
    std::longjmp(reinterpret_cast<Errors*>(info->err)->back, 1);
  }
}

class JpegDecoder {
 public:
  JpegDecoder(Bytes bytes, const std::string& name) : name_(name) {
    info_.err = jpeg_std_error(&errors_.manager);
    errors_.manager.error_exit = leave;
    errors_.manager.emit_message = note_warning;
    errors_.manager.output_message = [](j_common_ptr) {};
    guarded([&] {
      jpeg_create_decompress(&info_);
      progress_.progress_monitor = check_scans;
      info_.progress = &progress_;
      jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
      jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xffff);
      jpeg_read_header(&info_, TRUE);
    });
    if (info_.num_components != 1 && info_.num_components != 3 && info_.num_components != 4) {
      const int components = info_.num_components;
      jpeg_destroy_decompress(&info_);
      refuse_damaged(name_, "JPEG", std::to_string(components) + " colour components where 1, 3 or 4 are known");
    }
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&info_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  int height() const { return static_cast<int>(info_.image_height); }
  int width() const { return static_cast<int>(info_.image_width); }

  int orientation() const {
    using std::string_view_literals::operator""sv;
    std::optional<int> from_exif, from_xmp;
    for (const jpeg_marker_struct* m = info_.marker_list; m != nullptr; m = m->next) {
      const std::string_view text(reinterpret_cast<const char*>(m->data), m->data_length);
      if (!from_exif && text.starts_with("Exif\0\0"sv)) {
        from_exif = exif_orientation(std::as_bytes(std::span(text)));
      } else if (!from_xmp && text.starts_with("http://ns.adobe.com/xap/1.0/\0"sv)) {
        from_xmp = xmp_orientation(text);
      }
    }
    return from_exif.value_or(from_xmp.value_or(kUpright));
  }

  Picture decode() {
    const int components = info_.num_components;
    Picture picture = Picture::blank(height(), width());
    std::vector<std::uint8_t> row(static_cast<std::size_t>(width()) * static_cast<std::size_t>(components));
    guarded([&] {
      info_.out_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
      jpeg_start_decompress(&info_);
      std::uint8_t* out = picture.rgb.data();
      while (info_.output_scanline < info_.output_height && !errors_.cut) {
        JSAMPROW target = components == 3 ? out : row.data();
        jpeg_read_scanlines(&info_, &target, 1);
        widen_row(row, components, out);
        out += static_cast<std::size_t>(width()) * 3;
      }
    });
    if (errors_.cut) {
      refuse_damaged(name_, "JPEG", "data that ends before the picture does");
    }
    return picture;
  }

 private:
  // Pillow reads four-component files as Adobe writes them, inverted: R = (255-C)(255-K)/255 of the inverted values.
  static void widen_row(const std::vector<std::uint8_t>& row, int components, std::uint8_t* out) {
    if (components == 1) {
      for (const std::uint8_t v : row) {
        *out++ = v;
        *out++ = v;
        *out++ = v;
      }
    } else if (components == 4) {
      for (std::size_t i = 0; i < row.size(); i += 4) {
        const int light = row[i + 3];
        for (std::size_t c = 0; c < 3; ++c) {
          const int product = (255 - row[i + c]) * light + 128;
          const int value = light - ((product + (product >> 8)) >> 8);
          *out++ = static_cast<std::uint8_t>(value < 0 ? 0 : value);
        }
      }
    }
  }

  // Runs `body`; objects with destructors must not be created inside it before a libjpeg call.
  template <typename Body>
  void guarded(const Body& body) {
    if (setjmp(errors_.back) != 0) {
      jpeg_destroy_decompress(&info_);
      refuse_damaged(name_, "JPEG", std::string("the decoder's complaint \"") + errors_.message + "\"");
    }
    body();
  }

  const std::string& name_;
  jpeg_decompress_struct info_{};
  Errors errors_{};
  jpeg_progress_mgr progress_{};
};

}  // namespace

StillFacts jpeg_facts(Bytes bytes, const std::string& name) {
  const JpegDecoder decoder(bytes, name);
  return {.format = StillFormat::kJpeg,
          .height = decoder.height(),
          .width = decoder.width(),
          .orientation = decoder.orientation()};
}

Picture decode_jpeg(Bytes bytes, const std::string& name) {
  JpegDecoder decoder(bytes, name);
  check_picture_size("picture " + name, decoder.height(), decoder.width());
  return decoder.decode();
}

}  // namespace zoetrope::still
