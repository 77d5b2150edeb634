// What a checkpoint's preprocessor files and a request say about pictures and films: pixel limits, sampling rate, and
// the values that describe what was really used. No pixels here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace zoetrope {

// preprocessor_config.json
struct ImageProcessor {
  std::int64_t pixels_min = 65536;
  std::int64_t pixels_max = 16777216;

  static ImageProcessor load(const std::filesystem::path& folder);  // throws Error(kStartup)
};

// video_preprocessor_config.json
struct VideoProcessor {
  std::int64_t pixels_min = 4096;  // of all sampled frames together: T * H * W
  std::int64_t pixels_max = 25165824;
  double fps = 2;
  int frames_min = 4;
  int frames_max = 768;

  // num_frames in the file is refused: the reference refuses every film then, as it stands beside fps.
  static VideoProcessor load(const std::filesystem::path& folder);  // throws Error(kStartup)
};

// Patches of what the vision tower sees: t temporal pairs of h x w patches of 16 x 16 pixels.
struct Grid {
  int t = 0;
  int h = 0;
  int w = 0;
  std::int64_t tokens_of_pair() const { return std::int64_t{h} * w / 4; }
  std::int64_t tokens() const { return tokens_of_pair() * t; }
  bool operator==(const Grid&) const = default;
};

// Per request. Each limit works alone and replaces the processor's value; the reference ignores a lone one.
struct ImageOptions {
  std::optional<std::int64_t> min_pixels = {};
  std::optional<std::int64_t> max_pixels = {};
};

struct VideoOptions {
  std::optional<double> fps = {};                 // frames a second of film; not together with num_frames
  std::optional<int> num_frames = {};             // exactly so many, evenly spread; more than the film has repeats some
  std::optional<int> max_frames = {};             // replaces the processor's 768
  std::optional<std::int64_t> min_pixels = {};    // of one frame, H * W
  std::optional<std::int64_t> max_pixels = {};    // of one frame, H * W
  std::optional<std::int64_t> total_pixels = {};  // of all frames, T * H * W: replaces size.longest_edge
  std::optional<double> video_start = {};         // seconds of the film
  std::optional<double> video_end = {};
  std::optional<std::vector<std::int64_t>> frame_indices = {};  // already chosen source frames; no sampling
  bool reference_timestamps = false;  // index / fps also where the film's clock says otherwise
  bool rotate = true;                 // apply the film's display matrix; the reference does not
};

// What was really used of one medium; goes with every answer.
struct MediaReport {
  std::string kind = {};  // "image", "video", "frames" (a video given as pictures)
  std::string file = {};
  std::int64_t source_frames = 0;           // of the whole film
  double source_fps = 0;                    // average; 0 when unknown
  int source_height = 0, source_width = 0;  // as seen: after turning
  std::int64_t frames_used = 0;             // sampled, before the padding to an even number
  double fps_used = 0;
  double seconds_first = 0, seconds_last = 0;  // true times of the first and last frame used
  int resized_height = 0, resized_width = 0;
  std::int64_t tokens = 0;
  std::vector<std::string> notes = {};  // everything that was done to the medium and is not obvious from the numbers
};

}  // namespace zoetrope
