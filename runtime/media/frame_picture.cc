#include "runtime/media/frame_picture.h"

extern "C" {
#include <libavutil/frame.h>
#include <libavutil/mem.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "runtime/media/orientation.h"

namespace zoetrope {
namespace {

constexpr int kRowAlignment = 64;
constexpr std::size_t kSlackBytes = 256;  // the converter may write whole vectors at the end of the last row

}  // namespace

FramePicture::FramePicture(int height, int width, int orientation)
    : height_(height), width_(width), orientation_(orientation) {}

FramePicture::~FramePicture() {
  sws_freeContext(converter_);
  av_free(rows_);
}

std::string FramePicture::write(const AVFrame& frame, std::span<std::uint8_t> rgb) {
  const auto format = static_cast<AVPixelFormat>(frame.format);
  const char* format_name = av_get_pix_fmt_name(format);
  // SWS_BILINEAR and no other flag, at the frame's own size: the reference's pixels. Resizing is ours.
  converter_ = sws_isSupportedInput(format) == 0
                   ? nullptr
                   : sws_getCachedContext(converter_, frame.width, frame.height, format, frame.width, frame.height,
                                          AV_PIX_FMT_RGB24, SWS_BILINEAR, nullptr, nullptr, nullptr);
  if (converter_ == nullptr) {
    return fmt::format("pixel format {} that cannot be converted", format_name == nullptr ? "unknown" : format_name);
  }
  const int* matrix = sws_getCoefficients(frame.colorspace);
  sws_setColorspaceDetails(converter_, matrix, frame.color_range == AVCOL_RANGE_JPEG ? 1 : 0, matrix, 1, 0, 1 << 16,
                           1 << 16);
  const int stride = (frame.width * 3 + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  const std::size_t bytes = static_cast<std::size_t>(stride) * static_cast<std::size_t>(frame.height) + kSlackBytes;
  if (bytes != rows_bytes_) {
    av_freep(&rows_);
    rows_ = static_cast<std::uint8_t*>(av_malloc(bytes));
    rows_bytes_ = rows_ == nullptr ? 0 : bytes;
    if (rows_ == nullptr) {
      throw std::bad_alloc();
    }
  }
  std::uint8_t* targets[4] = {rows_, nullptr, nullptr, nullptr};
  const int strides[4] = {stride, 0, 0, 0};
  if (sws_scale(converter_, frame.data, frame.linesize, 0, frame.height, targets, strides) != frame.height) {
    return "a picture that cannot be converted to RGB";
  }
  const Picture upright =
      orientation_ == kUpright ? Picture{} : turned(rows_, frame.height, frame.width, stride, orientation_);
  const bool as_is = upright.rgb.empty();
  const std::uint8_t* source = as_is ? rows_ : upright.rgb.data();
  const int source_height = as_is ? frame.height : upright.height;
  const int source_width = as_is ? frame.width : upright.width;
  if (!resizer_ || resizer_->height_in() != source_height || resizer_->width_in() != source_width) {
    resizer_.emplace(source_height, source_width, height_, width_);
  }
  resizer_->apply(source, as_is ? stride : static_cast<std::ptrdiff_t>(source_width) * 3, rgb);
  return "";
}

}  // namespace zoetrope
