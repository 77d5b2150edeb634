#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/media/film_reader.h"
#include "runtime/media/patches.h"
#include "runtime/media/resize.h"
#include "runtime/media/still.h"
#include "runtime/prompt/frame_table_cache.h"
#include "runtime/prompt/prompt.h"
#include "runtime/prompt/source_cache.h"

namespace zoetrope {
namespace {

[[noreturn]] void refuse_changed(std::string what, std::string found, std::string expected) {
  refuse(Radius::kRequest, {std::move(what), std::move(found), std::move(expected),
                            "do not write to media files while they are read, and have the same ones on every host"});
}

}  // namespace

struct UnitReader::State {
  // The film that is open, and the last frame read from it (a repeated last frame is not decoded again).
  std::string open_key;
  std::vector<std::int64_t> open_frames;
  std::shared_ptr<const FrameTable> table;
  std::optional<FilmReader> film;
  std::int64_t last_frame = -1;
  std::vector<std::uint8_t> frames[2];

  static std::string key_of(const Medium& medium) {
    const MediaSource& source = medium.sources[0];
    return fmt::format("{} {} {}x{} {}", source.name, identity_of(source), medium.resized_height, medium.resized_width,
                       medium.rotate);
  }

  void open(const Medium& medium) {
    const std::string key = key_of(medium);
    if (film && key == open_key && medium.frames == open_frames) {
      return;
    }
    film.reset();
    table = frame_table_of(medium.sources[0]);
    if (const MediaReport& planned = medium.report; std::ssize(table->frames) != planned.source_frames) {
      refuse_changed("film " + medium.sources[0].name, fmt::format("{} frames", table->frames.size()),
                     fmt::format("{} as when it was planned", planned.source_frames));
    }
    // Frames in rising order let the decoder leave out what nobody needs.
    const bool rising = std::is_sorted(medium.frames.begin(), medium.frames.end());
    film.emplace(medium.sources[0], *table,
                 FilmReaderSettings{.height = medium.resized_height,
                                    .width = medium.resized_width,
                                    .rotate = medium.rotate,
                                    .expected = rising ? medium.frames : std::vector<std::int64_t>{}});
    open_key = key;
    open_frames = medium.frames;
    last_frame = -1;
  }

  void read_film(const Medium& medium, std::int32_t pair, const std::stop_token& stop) {
    open(medium);
    for (int half = 0; half < 2; ++half) {
      const std::int64_t frame = medium.frames[static_cast<std::size_t>(2 * pair + half)];
      if (half == 1 && frame == last_frame) {
        frames[1] = frames[0];
        continue;
      }
      try {
        film->read(frame, frames[half], stop);
      } catch (...) {
        film.reset();  // its decoder is in an unknown state
        throw;
      }
      last_frame = frame;
    }
  }

  void read_still(const MediaSource& source, const Medium& medium, std::vector<std::uint8_t>& out) {
    const Picture picture = decode_still(source);
    if (const MediaReport& planned = medium.report;
        picture.height != planned.source_height || picture.width != planned.source_width) {
      refuse_changed("picture " + source.name, fmt::format("{} x {} pixels", picture.width, picture.height),
                     fmt::format("{} x {} as when it was planned", planned.source_width, planned.source_height));
    }
    Picture resized;
    resize_bicubic(picture, medium.resized_height, medium.resized_width, resized);
    out = std::move(resized.rgb);
  }
};

UnitReader::UnitReader() : state_(std::make_unique<State>()) {}
UnitReader::~UnitReader() = default;

void UnitReader::read(const Medium& medium, std::int32_t pair, std::span<std::uint8_t> patches,
                      const std::stop_token& stop) {
  check_eq(patches.size(),
           static_cast<std::size_t>(medium.grid.h) * static_cast<std::size_t>(medium.grid.w) * kPatchColumns,
           "room for the patches of one unit");
  State& s = *state_;
  const auto bytes =
      static_cast<std::size_t>(medium.resized_height) * static_cast<std::size_t>(medium.resized_width) * 3;
  for (auto& frame : s.frames) {
    frame.resize(bytes);
  }
  switch (medium.kind) {
    case Medium::Kind::kPicture:
      s.read_still(medium.sources[0], medium, s.frames[0]);
      s.frames[1] = s.frames[0];
      break;
    case Medium::Kind::kFilm:
      s.read_film(medium, pair, stop);
      break;
    case Medium::Kind::kPictureList:
      for (int half = 0; half < 2; ++half) {
        const std::int64_t index = medium.frames[static_cast<std::size_t>(2 * pair + half)];
        s.read_still(medium.sources.at(static_cast<std::size_t>(index)), medium, s.frames[half]);
      }
      break;
  }
  write_patches(s.frames[0], s.frames[1], medium.resized_height, medium.resized_width, patches);
}

}  // namespace zoetrope
