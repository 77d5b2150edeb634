// A decoded frame -> RGB as the reference's film reader converts it, turned and resized. Used inside this folder only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/media/picture.h"
#include "runtime/media/resize.h"

struct AVFrame;
struct SwsContext;

namespace zoetrope {

class FramePicture {
 public:
  FramePicture(int height, int width, int orientation);  // of the result; orientation.h
  ~FramePicture();
  FramePicture(const FramePicture&) = delete;
  FramePicture& operator=(const FramePicture&) = delete;

  // Writes [height, width, 3]. Returns what is wrong with the frame, or "".
  std::string write(const AVFrame& frame, std::span<std::uint8_t> rgb);

 private:
  bool convert(const AVFrame& frame, int first, int rows, std::ptrdiff_t stride_bytes);
  bool convert_in_slices(const AVFrame& frame, std::ptrdiff_t stride_bytes);
  void make_rows(std::size_t bytes);
  Resizer& resizer_from(int height, int width);

  int height_, width_, orientation_;
  bool slices_ = true;  // false once the converter did not give a slice what it took
  SwsContext* converter_ = nullptr;
  std::uint8_t* rows_ = nullptr;  // RGB at the film's own size, a slice or all of it, rows aligned for the converter
  std::size_t rows_bytes_ = 0;
  std::optional<Resizer> resizer_;
};

}  // namespace zoetrope
