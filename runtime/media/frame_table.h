// Which frames a film has and when each is shown: learnt from its packets, never from what its header declares.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/media/source.h"

namespace zoetrope {

// One frame, in presentation order.
struct FrameEntry {
  std::int64_t pts;  // in the stream's own unit; unique. Meaningless when frames are counted (FrameTable::counted)
  double seconds;    // true time since the first frame; never falls
};

// A packet from which decoding gives exactly the pixels of a decode from the start, for all frames shown at or after
// it.
struct AccessPoint {
  std::int64_t frame;         // its index in presentation order
  std::int64_t packet;        // its place in decoding order
  std::int64_t pts, dts;      // stream unit
  std::int64_t offset_bytes;  // in the file; -1 when the container does not tell
};

struct FrameTable {
  int width = 0, height = 0;  // as coded, before turning
  int orientation = 1;        // of the display matrix, orientation.h
  double fps = 0;             // average rate of the film; 0 when it has one frame only and declares none
  bool variable = false;      // some frame is further from index / fps than half a frame
  bool counted = false;       // time stamps do not identify frames: frame k is the k-th that the decoder delivers
  int stream = -1;            // index in the container
  std::int64_t packets = 0;   // of that stream
  std::string format = {}, codec = {};  // FFmpeg's names
  std::vector<FrameEntry> frames = {};
  std::vector<AccessPoint> access_points = {};  // rising; empty when only the start is proven
  std::vector<std::string> notes = {};          // what was found odd and what was done about it

  // Whether frame `index` can be had without decoding `previous` or anything before it.
  bool starts_behind(std::int64_t previous, std::int64_t index) const;
  double duration_seconds() const;  // until the end of the last frame's average time
};

// Reads all packets of the first real video stream (cover art is passed over); decodes only where packets cannot tell
// (damaged or missing time stamps, field pictures: the whole film; a start inside an open GOP: its first pictures).
// Throws Error(kRequest): no video stream, no frames, unknown or forbidden format, sizes beyond the limits.
FrameTable read_frame_table(const MediaSource& source);

}  // namespace zoetrope
