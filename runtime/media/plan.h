// From sizes, frame times and options to what the model will see: sampled frames, resized sides, grids, timestamps.
// Pure arithmetic, decided before a pixel is decoded; equal to the reference's on every recorded row.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/media/frame_table.h"
#include "runtime/media/processor.h"

namespace zoetrope {

struct PictureSide {
  int height = 0;
  int width = 0;
  bool operator==(const PictureSide&) const = default;
};

struct ImagePlan {
  PictureSide source, resized;  // pixels; source after EXIF turning
  Grid grid;                    // t = 1
  MediaReport report;
};

struct VideoPlan {
  std::vector<std::int64_t>
      frames;  // source frame of every sampled frame, an even number: the last is repeated if need be
  std::vector<double> timestamps;  // [grid.t] seconds
  PictureSide source, resized;
  Grid grid;
  MediaReport report;
};

// Resized sides of a picture; limits in pixels. Throws Error: an aspect ratio above 200.
PictureSide resized_image(PictureSide source, std::int64_t pixels_min, std::int64_t pixels_max,
                          const std::string& name);

// Resized sides of `frames` sampled frames; limits count frames * height * width. Throws Error: fewer than two frames,
// a side below 32, an aspect ratio above 200.
PictureSide resized_video(std::int64_t frames, PictureSide source, std::int64_t pixels_min, std::int64_t pixels_max,
                          const std::string& name);

// round_half_even(linspace(first, last, count)).
std::vector<std::int64_t> spread_indices(std::int64_t first, std::int64_t last, std::int64_t count);

// "3.6" of "<3.6 seconds>": the correctly rounded decimal.
std::string timestamp_text(double seconds);

ImagePlan plan_image(const MediaSource& source, const ImageProcessor& processor, const ImageOptions& options);

VideoPlan plan_video(const std::string& name, const FrameTable& table, const VideoProcessor& processor,
                     const VideoOptions& options);

// A video given as pictures with their times in seconds (rising). All are used unless options ask for sampling.
VideoPlan plan_pictures(std::span<const MediaSource> pictures, std::span<const double> seconds,
                        const VideoProcessor& processor, const VideoOptions& options);

}  // namespace zoetrope
