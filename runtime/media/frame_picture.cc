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

#include "monitoring/check.h"
#include "runtime/media/orientation.h"

namespace zoetrope {
namespace {

constexpr int kRowAlignment = 64;
// The converter may write whole vectors at the end of the last row, the resizer may read beyond it.
constexpr std::size_t kSlackBytes = 256;
static_assert(kSlackBytes >= kRowSlackBytes);
// Rows that are converted and made narrow before the next: they stay in a core's cache. Even: two rows share their
// chroma.
constexpr int kSliceRows = 32;

// 8-bit 4:2:0 at its own size is converted two rows at a time and row for row, unless their number is odd.
bool goes_in_slices(const AVFrame& frame) {
  return (frame.format == AV_PIX_FMT_YUV420P || frame.format == AV_PIX_FMT_YUVJ420P) && frame.height % 2 == 0;
}

}  // namespace

FramePicture::FramePicture(int height, int width, int orientation)
    : height_(height), width_(width), orientation_(orientation) {}

FramePicture::~FramePicture() {
  sws_freeContext(converter_);
  av_free(rows_);
}

void FramePicture::make_rows(std::size_t bytes) {
  if (bytes == rows_bytes_) {
    return;
  }
  av_freep(&rows_);
  rows_ = static_cast<std::uint8_t*>(av_malloc(bytes));
  rows_bytes_ = rows_ == nullptr ? 0 : bytes;
  if (rows_ == nullptr) {
    throw std::bad_alloc();
  }
}

Resizer& FramePicture::resizer_from(int height, int width) {
  if (!resizer_ || resizer_->height_in() != height || resizer_->width_in() != width) {
    resizer_.emplace(height, width, height_, width_);
  }
  return *resizer_;
}

// Rows [first, first + rows) of the frame to the beginning of rows_.
bool FramePicture::convert(const AVFrame& frame, int first, int rows, std::ptrdiff_t stride_bytes) {
  const std::uint8_t* planes[4] = {};
  for (int plane = 0; plane < 4 && frame.data[plane] != nullptr; ++plane) {
    const int row = goes_in_slices(frame) && plane > 0 ? first / 2 : first;
    planes[plane] = frame.data[plane] + std::ptrdiff_t{row} * frame.linesize[plane];
  }
  // The converter counts rows from the top of the picture.
  const auto top = reinterpret_cast<std::uintptr_t>(rows_) - static_cast<std::uintptr_t>(first * stride_bytes);
  std::uint8_t* targets[4] = {reinterpret_cast<std::uint8_t*>(top), nullptr, nullptr, nullptr};
  const int strides[4] = {static_cast<int>(stride_bytes), 0, 0, 0};
  return sws_scale(converter_, planes, frame.linesize, first, rows, targets, strides) == rows;
}

bool FramePicture::convert_in_slices(const AVFrame& frame, std::ptrdiff_t stride_bytes) {
  Resizer& resizer = resizer_from(frame.height, frame.width);
  for (int first = 0; first < frame.height; first += kSliceRows) {
    const int rows = std::min(kSliceRows, frame.height - first);
    if (!convert(frame, first, rows, stride_bytes)) {
      return false;  // noticed at the first slice: nothing was written outside rows_
    }
    resizer.take_rows(first, rows, rows_, stride_bytes);
  }
  return true;
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
  const std::ptrdiff_t stride = round_up<std::ptrdiff_t>(std::ptrdiff_t{frame.width} * 3, kRowAlignment);
  const auto bytes_of = [&](int rows) { return static_cast<std::size_t>(stride * rows) + kSlackBytes; };
  if (slices_ && orientation_ == kUpright && goes_in_slices(frame)) {
    make_rows(bytes_of(std::min(kSliceRows, frame.height)));
    if (convert_in_slices(frame, stride)) {
      resizer_->finish(rgb);
      return "";
    }
    slices_ = false;
    sws_freeContext(converter_);  // it waits for more rows
    converter_ = nullptr;
    return write(frame, rgb);
  }
  make_rows(bytes_of(frame.height));
  if (!convert(frame, 0, frame.height, stride)) {
    return "a picture that cannot be converted to RGB";
  }
  if (orientation_ == kUpright) {
    resizer_from(frame.height, frame.width).apply(rows_, stride, rgb);
  } else {
    const Picture upright = turned(rows_, frame.height, frame.width, stride, orientation_);
    resizer_from(upright.height, upright.width).apply(upright.rgb.data(), std::ptrdiff_t{upright.width} * 3, rgb);
  }
  return "";
}

}  // namespace zoetrope
