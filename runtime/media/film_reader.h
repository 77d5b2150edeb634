// Chosen frames of a film, one at a time and already resized. Memory does not grow with the film: one decoder, one
// picture.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "runtime/media/frame_table.h"
#include "runtime/media/source.h"

namespace zoetrope {

struct FilmReaderSettings {
  int height = 0, width = 0;  // of what read() delivers
  bool rotate = true;         // apply the table's orientation
  int threads = 1;            // of the decoder
  // The frames that will be read, rising. Lets the decoder leave out pictures that nobody needs; others may still be
  // read, at the price of decoding again. Empty: every picture is decoded.
  std::vector<std::int64_t> expected = {};
};

// How the reader got its frames; for tests and reports.
struct FilmReaderCounts {
  std::int64_t packets_decoded = 0;
  std::int64_t packets_passed = 0;  // read but not decoded
  std::int64_t jumps = 0;           // decoding continued at an access point
  std::int64_t seeks = 0;           // of them by the container's index
  std::int64_t restarts = 0;        // from an earlier place
};

// One thread uses it. Frames are cheap in rising order; going back opens the film again.
class FilmReader {
 public:
  FilmReader(const MediaSource& source, const FrameTable& table,
             FilmReaderSettings settings);  // `table` must outlive it
  FilmReader(const MediaSource& source, const FrameTable& table, int height, int width, bool rotate);
  ~FilmReader();
  FilmReader(const FilmReader&) = delete;
  FilmReader& operator=(const FilmReader&) = delete;

  // Frame `index` of the table into rgb [height, width, 3]. Throws Error(kRequest) naming the film, the frame and its
  // time when the frame is damaged, cannot be decoded or changes its size, or when `stop` asks to give up on the way.
  void read(std::int64_t index, std::span<std::uint8_t> rgb, const std::stop_token& stop = {});

  const FilmReaderCounts& counts() const;

 private:
  class Run;
  std::unique_ptr<Run> run_;
};

}  // namespace zoetrope
