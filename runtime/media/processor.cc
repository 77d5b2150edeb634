#include "runtime/media/processor.h"

#include <cmath>
#include <limits>

#include "runtime/json/json.h"
#include "runtime/media/patches.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kPixelsMax = std::int64_t{1} << 40;

// Settings that change pixels and are built into patches.cc: any other value would silently give other answers.
void check_fixed_settings(const json::Fields& fields) {
  const auto fixed = [&](std::string_view key, double expected) {
    if (fields.has(key) && fields.number(key) != expected) {
      fields.refuse(key, std::to_string(fields.number(key)), std::to_string(expected),
                    "this program knows the Qwen3-VL processors only; use the files that came with the checkpoint");
    }
  };
  fixed("patch_size", kPatchSide);
  fixed("temporal_patch_size", kTemporalPatch);
  fixed("merge_size", kMergeSide);
  fixed("resample", 3);  // bicubic
  if (fields.has("rescale_factor") && std::abs(fields.number("rescale_factor") * 255 - 1) > 1e-6) {
    fields.refuse("rescale_factor", std::to_string(fields.number("rescale_factor")), "1/255",
                  "use the checkpoint's own file");
  }
  for (const char* key : {"do_resize", "do_rescale", "do_normalize", "do_convert_rgb", "do_sample_frames"}) {
    if (!fields.boolean_or(key, true)) {
      fields.refuse(key, "false", "true", "use the checkpoint's own file");
    }
  }
  for (const char* key : {"image_mean", "image_std"}) {
    if (!fields.has(key)) {
      continue;
    }
    for (const json::Value& value : fields.array(key)) {
      if (!value.is_number() || value.to_number<double>() != 0.5) {
        fields.refuse(key, json::described(value), "0.5 for each channel", "use the checkpoint's own file");
      }
    }
  }
}

// size.shortest_edge and size.longest_edge are pixel counts here; min_pixels and max_pixels, where given, rule.
template <typename Processor>
void load_limits(const json::Fields& fields, Processor& processor) {
  if (fields.has("size")) {
    const json::Fields size = fields.child("size");
    processor.pixels_min = size.integer_or("shortest_edge", processor.pixels_min, 1, kPixelsMax);
    processor.pixels_max = size.integer_or("longest_edge", processor.pixels_max, 1, kPixelsMax);
  }
  processor.pixels_min = fields.integer_or("min_pixels", processor.pixels_min, 1, kPixelsMax);
  processor.pixels_max = fields.integer_or("max_pixels", processor.pixels_max, 1, kPixelsMax);
  if (processor.pixels_min > processor.pixels_max) {
    fields.refuse("size",
                  std::to_string(processor.pixels_min) + " as lower and " + std::to_string(processor.pixels_max) +
                      " as upper limit",
                  "a lower limit not above the upper one", "use the checkpoint's own file");
  }
}

json::Value read(const std::filesystem::path& file) {
  return json::parse_file(file, Radius::kStartup, std::size_t{1} << 20);
}

}  // namespace

ImageProcessor ImageProcessor::load(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "preprocessor_config.json";
  const json::Value value = read(file);
  const json::Fields fields(value, {file.string(), Radius::kStartup});
  ImageProcessor processor;
  check_fixed_settings(fields);
  load_limits(fields, processor);
  return processor;
}

VideoProcessor VideoProcessor::load(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "video_preprocessor_config.json";
  const json::Value value = read(file);
  const json::Fields fields(value, {file.string(), Radius::kStartup});
  VideoProcessor processor;
  check_fixed_settings(fields);
  load_limits(fields, processor);
  processor.fps = fields.number_or("fps", processor.fps);
  if (!(processor.fps > 0) || !std::isfinite(processor.fps)) {
    fields.refuse("fps", std::to_string(processor.fps), "a positive number of frames a second",
                  "use the checkpoint's own file");
  }
  constexpr std::int64_t kFramesMax = std::numeric_limits<int>::max();
  processor.frames_min = static_cast<int>(fields.integer_or("min_frames", processor.frames_min, 1, kFramesMax));
  processor.frames_max = static_cast<int>(fields.integer_or("max_frames", processor.frames_max, 1, kFramesMax));
  if (fields.has("num_frames")) {
    fields.refuse("num_frames", std::to_string(fields.integer("num_frames", 0, kFramesMax)), "no such field beside fps",
                  "remove it and ask for num_frames in the request");
  }
  return processor;
}

}  // namespace zoetrope
