#include "runtime/media/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/media/orientation.h"
#include "runtime/media/patches.h"
#include "runtime/media/still.h"

namespace zoetrope {
namespace {

constexpr int kFactor = kPatchSide * kMergeSide;  // 32: a token covers 32 x 32 pixels
constexpr double kFpsUnknown = 24;                // the reference's rate of films that declare none
constexpr std::int64_t kFramesAskedMax = 1 << 20;

[[noreturn]] void refuse_medium(const std::string& what, std::string found, std::string expected, std::string remedy) {
  refuse(Radius::kRequest,
         {.what = what, .found = std::move(found), .expected = std::move(expected), .remedy = std::move(remedy)});
}

// Half to even, as Python rounds: the default rounding mode of nearbyint.
std::int64_t rounded(double value) { return static_cast<std::int64_t>(std::nearbyint(value)); }

std::int64_t floored(double side) {
  return std::max<std::int64_t>(kFactor, static_cast<std::int64_t>(std::floor(side / kFactor)) * kFactor);
}
std::int64_t raised(double side) { return static_cast<std::int64_t>(std::ceil(side / kFactor)) * kFactor; }

// Steps a second, 0 where no number can say it: a span of nothing, or of almost nothing.
double rate(std::int64_t steps, double seconds) {
  const double value = seconds > 0 ? static_cast<double>(steps) / seconds : 0;
  return std::isfinite(value) ? value : 0;
}

void check_aspect(PictureSide source, const std::string& name) {
  const double ratio =
      static_cast<double>(std::max(source.height, source.width)) / std::min(source.height, source.width);
  if (ratio > 200) {
    refuse_medium(name,
                  fmt::format("{} x {} pixels (width x height), sides {:.1f} to 1", source.width, source.height, ratio),
                  "sides of at most 200 to 1", "cut it into pieces or scale its long side down");
  }
}

struct Limits {
  std::int64_t lo, hi;
};

// The reference's smart_resize: `counted` times counts for the first rounding, `frames` for the scale.
PictureSide smart_resized(PictureSide source, double frames, double counted, Limits limits) {
  const double h = source.height;
  const double w = source.width;
  std::int64_t height = rounded(h / kFactor) * kFactor;
  std::int64_t width = rounded(w / kFactor) * kFactor;
  const double area = counted * static_cast<double>(height) * static_cast<double>(width);
  if (area > static_cast<double>(limits.hi)) {
    const double beta = std::sqrt(frames * h * w / static_cast<double>(limits.hi));
    height = floored(h / beta);
    width = floored(w / beta);
  } else if (area < static_cast<double>(limits.lo)) {
    const double beta = std::sqrt(static_cast<double>(limits.lo) / (frames * h * w));
    height = raised(h * beta);
    width = raised(w * beta);
  }
  check(height > 0 && width > 0, "resized sides are positive");
  return {static_cast<int>(height), static_cast<int>(width)};
}

void check_positive(const std::string& name, const char* option, std::optional<std::int64_t> value,
                    std::int64_t at_most) {
  if (value && (*value < 1 || *value > at_most)) {
    refuse_medium(name + ": option " + option, std::to_string(*value), fmt::format("1 to {}", at_most),
                  "change the option");
  }
}

void check_resized(const std::string& name, PictureSide resized) {
  if (std::int64_t{resized.height} * resized.width > kPicturePixelsMax) {
    refuse_medium(name, fmt::format("a resized size of {} x {}", resized.width, resized.height),
                  fmt::format("at most {} pixels", kPicturePixelsMax), "lower min_pixels and max_pixels");
  }
}

Limits image_limits(const std::string& name, const ImageProcessor& processor, const ImageOptions& options) {
  check_positive(name, "min_pixels", options.min_pixels, kPicturePixelsMax);
  check_positive(name, "max_pixels", options.max_pixels, kPicturePixelsMax);
  Limits limits{options.min_pixels.value_or(processor.pixels_min), options.max_pixels.value_or(processor.pixels_max)};
  if (limits.lo > limits.hi) {
    if (options.min_pixels && options.max_pixels) {
      refuse_medium(name + ": options min_pixels and max_pixels", fmt::format("{} and {}", limits.lo, limits.hi),
                    "min_pixels not above max_pixels", "exchange them");
    }
    (options.max_pixels ? limits.lo : limits.hi) =
        options.max_pixels ? limits.hi : limits.lo;  // the one asked for rules
  }
  return limits;
}

// T * H * W limits of a film of `frames` sampled frames.
Limits video_limits(const std::string& name, std::int64_t frames, const VideoProcessor& processor,
                    const VideoOptions& options) {
  check_positive(name, "min_pixels", options.min_pixels, kPicturePixelsMax);
  check_positive(name, "max_pixels", options.max_pixels, kPicturePixelsMax);
  check_positive(name, "total_pixels", options.total_pixels, std::int64_t{1} << 48);
  Limits limits{processor.pixels_min, options.total_pixels.value_or(processor.pixels_max)};
  if (options.max_pixels) {
    limits.hi = std::min(limits.hi, frames * *options.max_pixels);
  }
  if (options.min_pixels) {
    const std::int64_t asked = frames * *options.min_pixels;
    if (asked > limits.hi) {
      refuse_medium(name + ": option min_pixels",
                    fmt::format("{} pixels for each of {} frames, {} together", *options.min_pixels, frames, asked),
                    fmt::format("at most {} together", limits.hi),
                    "raise total_pixels, or lower min_pixels, fps or max_frames");
    }
    limits.lo = std::max(limits.lo, asked);
  }
  limits.lo = std::min(limits.lo, limits.hi);
  return limits;
}

// The stretch of frames that video_start and video_end leave.
struct Stretch {
  std::int64_t first, last;
};

Stretch stretch_of(const std::string& name, const FrameTable& table, double fps, const VideoOptions& options) {
  const auto frames = static_cast<std::int64_t>(table.frames.size());
  Stretch stretch{0, frames - 1};
  const double end = table.duration_seconds();
  for (const auto& value : {options.video_start, options.video_end}) {
    if (value && !(*value >= 0 && std::isfinite(*value))) {
      refuse_medium(name + ": option video_start or video_end", fmt::format("{}", *value), "seconds from 0 on",
                    "change the option");
    }
  }
  if (options.video_start && options.video_end && *options.video_start >= *options.video_end) {
    refuse_medium(name + ": options video_start and video_end",
                  fmt::format("{} and {} seconds", *options.video_start, *options.video_end), "a start before the end",
                  "exchange them");
  }
  const bool by_clock = table.variable && !options.reference_timestamps;
  const auto at_or_after = [&](double seconds) {
    return std::partition_point(table.frames.begin(), table.frames.end(),
                                [&](const FrameEntry& f) { return f.seconds < seconds; }) -
           table.frames.begin();
  };
  const auto bounded = [&](double index) {
    return static_cast<std::int64_t>(std::min(index, static_cast<double>(frames)));
  };
  if (options.video_start) {
    stretch.first = by_clock ? at_or_after(*options.video_start) : bounded(std::ceil(*options.video_start * fps));
  }
  if (options.video_end) {
    const std::int64_t last =
        by_clock ? at_or_after(std::nextafter(*options.video_end, std::numeric_limits<double>::infinity())) - 1
                 : bounded(std::floor(*options.video_end * fps));
    stretch.last = std::min(stretch.last, last);
  }
  if (stretch.first > stretch.last) {
    refuse_medium(name + ": options video_start and video_end",
                  fmt::format("{} to {} seconds, where the film shows no frame", options.video_start.value_or(0),
                              options.video_end.value_or(end)),
                  fmt::format("a part of its {:.3f} seconds", end), "change the options");
  }
  return stretch;
}

std::int64_t sampled_count(const std::string& name, std::int64_t frames, double fps, const VideoProcessor& processor,
                           const VideoOptions& options, std::vector<std::string>& notes) {
  if (options.num_frames) {
    if (options.fps || options.max_frames) {
      refuse_medium(name + ": option num_frames", options.fps ? "fps beside it" : "max_frames beside it",
                    "num_frames alone", "remove one of the two");
    }
    check_positive(name, "num_frames", options.num_frames, kFramesAskedMax);
    if (*options.num_frames > frames) {
      notes.push_back(fmt::format("num_frames {} is more than the {} frames there are: some are repeated",
                                  *options.num_frames, frames));
    }
    return *options.num_frames;
  }
  check_positive(name, "max_frames", options.max_frames, kFramesAskedMax);
  const double rate = options.fps.value_or(processor.fps);
  if (!(rate > 0) || !std::isfinite(rate)) {
    refuse_medium(name + ": option fps", fmt::format("{}", rate), "a positive number of frames a second",
                  "change the option");
  }
  const std::int64_t most = options.max_frames.value_or(processor.frames_max);
  const double wanted = std::trunc(static_cast<double>(frames) / fps * rate);
  const double count = std::min({std::max(wanted, static_cast<double>(processor.frames_min)), static_cast<double>(most),
                                 static_cast<double>(frames)});
  if (wanted > static_cast<double>(most) && most < frames) {
    notes.push_back(fmt::format("sampled below {} frames a second because of max_frames={}", rate, most));
  } else if (wanted > count) {
    notes.push_back(fmt::format("all {} frames are used: the film has fewer than {} a second", frames, rate));
  }
  return static_cast<std::int64_t>(count);
}

void check_given_indices(const std::string& name, const std::vector<std::int64_t>& indices, std::int64_t frames) {
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || indices[i] >= frames || (i > 0 && indices[i] < indices[i - 1])) {
      refuse_medium(fmt::format("{}: frame_indices[{}]", name, i), std::to_string(indices[i]),
                    fmt::format("rising frame numbers from 0 to {}", frames - 1), "change the list");
    }
  }
}

std::vector<std::int64_t> chosen_frames(const std::string& name, const FrameTable& table, double fps,
                                        const VideoProcessor& processor, const VideoOptions& options,
                                        std::vector<std::string>& notes) {
  const auto frames = static_cast<std::int64_t>(table.frames.size());
  if (options.frame_indices) {
    if (options.fps || options.num_frames || options.max_frames || options.video_start || options.video_end) {
      refuse_medium(name + ": option frame_indices", "a sampling option beside it", "the list alone",
                    "remove fps, num_frames, max_frames, video_start and video_end");
    }
    check_given_indices(name, *options.frame_indices, frames);
    return *options.frame_indices;
  }
  const Stretch stretch = stretch_of(name, table, fps, options);
  const std::int64_t count = sampled_count(name, stretch.last - stretch.first + 1, fps, processor, options, notes);
  return spread_indices(stretch.first, stretch.last, count);
}

// What films and lists of pictures share once the frames are chosen: sides, padding, timestamps, report.
void finish_video(VideoPlan& plan, const VideoProcessor& processor, const VideoOptions& options,
                  std::span<const double> seconds_of_used) {
  const auto count = static_cast<std::int64_t>(plan.frames.size());
  const std::string& name = plan.report.file;
  const Limits limits = video_limits(name, std::max<std::int64_t>(count, 1), processor, options);
  plan.resized = resized_video(count, plan.source, limits.lo, limits.hi, name);
  check_resized(name, plan.resized);
  std::vector<double> seconds(seconds_of_used.begin(), seconds_of_used.end());
  if (plan.frames.size() % 2 != 0) {
    plan.frames.push_back(plan.frames.back());
    seconds.push_back(seconds.back());
    plan.report.notes.push_back(fmt::format("the last of {} frames is shown twice to make pairs", count));
  }
  for (std::size_t i = 0; i < seconds.size(); i += 2) {
    plan.timestamps.push_back((seconds[i] + seconds[i + 1]) / 2);
  }
  plan.grid = {static_cast<int>(plan.frames.size() / 2), plan.resized.height / kPatchSide,
               plan.resized.width / kPatchSide};
  if (static_cast<std::int64_t>(plan.frames.size()) * plan.resized.height * plan.resized.width >
      limits.hi + limits.hi / 2) {
    plan.report.notes.push_back(
        fmt::format("{} pixels together, more than the limit of {}: no frame can be smaller than {} x {}",
                    static_cast<std::int64_t>(plan.frames.size()) * plan.resized.height * plan.resized.width, limits.hi,
                    kFactor, kFactor));
  }
  MediaReport& report = plan.report;
  report.source_height = plan.source.height;
  report.source_width = plan.source.width;
  report.frames_used = count;
  report.seconds_first = seconds.front();
  report.seconds_last = seconds.back();
  const double span = report.seconds_last - report.seconds_first;
  report.fps_used = rate(count - 1, span);
  report.resized_height = plan.resized.height;
  report.resized_width = plan.resized.width;
  report.tokens = plan.grid.tokens();
}

void refuse_no_frames(const std::string& name, std::size_t frames) {
  if (frames < 2) {
    refuse_medium(name, fmt::format("{} frame{}", frames, frames == 1 ? "" : "s"), "at least 2 frames",
                  "give a longer film, or the single frame as a picture");
  }
}

}  // namespace

PictureSide resized_image(PictureSide source, std::int64_t pixels_min, std::int64_t pixels_max,
                          const std::string& name) {
  check(source.height > 0 && source.width > 0, "a picture has pixels");
  check_aspect(source, name);
  return smart_resized(source, 1, 1, {pixels_min, pixels_max});
}

PictureSide resized_video(std::int64_t frames, PictureSide source, std::int64_t pixels_min, std::int64_t pixels_max,
                          const std::string& name) {
  if (frames < kTemporalPatch) {
    refuse_medium(name, fmt::format("{} sampled frame{}", frames, frames == 1 ? "" : "s"), "at least 2",
                  "give a longer film, ask for more frames, or give the single frame as a picture");
  }
  if (source.height < kFactor || source.width < kFactor) {
    refuse_medium(name, fmt::format("frames of {} x {} pixels (width x height)", source.width, source.height),
                  fmt::format("at least {} x {}", kFactor, kFactor), "scale the film up before asking");
  }
  check_aspect(source, name);
  const auto counted = static_cast<double>(rounded(static_cast<double>(frames) / kTemporalPatch) * kTemporalPatch);
  return smart_resized(source, static_cast<double>(frames), counted, {pixels_min, pixels_max});
}

std::vector<std::int64_t> spread_indices(std::int64_t first, std::int64_t last, std::int64_t count) {
  std::vector<std::int64_t> indices;
  const double step = count > 1 ? static_cast<double>(last - first) / static_cast<double>(count - 1) : 0;
  for (std::int64_t k = 0; k < count; ++k) {
    indices.push_back(k > 0 && k == count - 1 ? last
                                              : rounded(static_cast<double>(k) * step + static_cast<double>(first)));
  }
  return indices;
}

std::string timestamp_text(double seconds) { return fmt::format("{:.1f}", seconds); }

ImagePlan plan_image(const MediaSource& source, const ImageProcessor& processor, const ImageOptions& options) {
  const StillFacts facts = read_still_facts(source);
  const Limits limits = image_limits(source.name, processor, options);
  ImagePlan plan;
  plan.source = {facts.upright_height(), facts.upright_width()};
  plan.resized = resized_image(plan.source, limits.lo, limits.hi, source.name);
  check_resized(source.name, plan.resized);
  plan.grid = {1, plan.resized.height / kPatchSide, plan.resized.width / kPatchSide};
  plan.report = {.kind = "image",
                 .file = source.name,
                 .source_frames = 1,
                 .source_height = plan.source.height,
                 .source_width = plan.source.width,
                 .frames_used = 1,
                 .resized_height = plan.resized.height,
                 .resized_width = plan.resized.width,
                 .tokens = plan.grid.tokens(),
                 .notes = facts.notes};
  return plan;
}

VideoPlan plan_video(const std::string& name, const FrameTable& table, const VideoProcessor& processor,
                     const VideoOptions& options) {
  refuse_no_frames(name, table.frames.size());
  VideoPlan plan;
  plan.report = {.kind = "video",
                 .file = name,
                 .source_frames = static_cast<std::int64_t>(table.frames.size()),
                 .source_fps = table.fps,
                 .notes = table.notes};
  const bool turns = options.rotate && table.orientation != kUpright;
  plan.source = turns && swaps_sides(table.orientation) ? PictureSide{table.width, table.height}
                                                        : PictureSide{table.height, table.width};
  auto& notes = plan.report.notes;
  if (table.orientation != kUpright) {
    notes.push_back(fmt::format("the film asks for turning by {} degrees{}: {}", clockwise_degrees(table.orientation),
                                table.orientation % 2 == 0 && table.orientation <= 4 ? " and mirroring" : "",
                                turns ? "done" : "not done (rotate=false)"));
  }
  const double fps = table.fps > 0 ? table.fps : kFpsUnknown;
  plan.frames = chosen_frames(name, table, fps, processor, options, notes);
  const bool by_clock = table.variable && !options.reference_timestamps;
  if (table.variable) {
    notes.push_back(by_clock ? "variable frame rate: each frame's true time is used"
                             : "variable frame rate: index / fps is used as asked, not the true times");
  }
  std::vector<double> seconds;
  for (const std::int64_t frame : plan.frames) {
    seconds.push_back(by_clock ? table.frames[static_cast<std::size_t>(frame)].seconds
                               : static_cast<double>(frame) / fps);
  }
  finish_video(plan, processor, options, seconds);
  return plan;
}

VideoPlan plan_pictures(std::span<const MediaSource> pictures, std::span<const double> seconds,
                        const VideoProcessor& processor, const VideoOptions& options) {
  const std::string name = fmt::format("a video of {} pictures", pictures.size());
  check_eq(pictures.size(), seconds.size(), "a time for each picture");
  refuse_no_frames(name, pictures.size());
  FrameTable table{.variable = true};
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    if (!(seconds[i] >= 0 && std::isfinite(seconds[i])) || (i > 0 && seconds[i] < seconds[i - 1])) {
      refuse_medium(fmt::format("{}: time {} ({})", name, i, pictures[i].name), fmt::format("{} seconds", seconds[i]),
                    "rising times from 0 on", "sort the pictures by time");
    }
    const StillFacts facts = read_still_facts(pictures[i]);
    if (i == 0) {
      table.height = facts.upright_height();
      table.width = facts.upright_width();
    } else if (facts.upright_height() != table.height || facts.upright_width() != table.width) {
      refuse_medium(fmt::format("{}: picture {} ({})", name, i, pictures[i].name),
                    fmt::format("{} x {} pixels", facts.upright_width(), facts.upright_height()),
                    fmt::format("{} x {} like the first", table.width, table.height),
                    "scale all pictures of a video to one size");
    }
    for (const std::string& note : facts.notes) {
      table.notes.push_back(fmt::format("picture {}: {}", i, note));
    }
    table.frames.push_back({static_cast<std::int64_t>(i), seconds[i]});
  }
  const double span = seconds.back() - seconds.front();
  table.fps = rate(static_cast<std::int64_t>(pictures.size()) - 1, span);
  VideoOptions all = options;
  if (!options.fps && !options.num_frames && !options.max_frames && !options.video_start && !options.video_end &&
      !options.frame_indices) {
    all.frame_indices =
        spread_indices(0, static_cast<std::int64_t>(pictures.size()) - 1, static_cast<std::int64_t>(pictures.size()));
  }
  all.reference_timestamps = false;
  VideoPlan plan = plan_video(name, table, processor, all);
  plan.report.kind = "frames";
  std::erase_if(plan.report.notes, [](const std::string& note) { return note.starts_with("variable frame rate"); });
  return plan;
}

}  // namespace zoetrope
