// What one packet of a film says about itself, read from its bytes: whether it shows a frame, and whether decoding may
// start at it with pixels proven equal to a decode from the start. Conservative: what is not understood proves nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>

namespace zoetrope {

struct PacketFacts {
  bool shown = true;   // false: a hidden reference frame (VP8, VP9), no picture comes out of it
  bool clean = false;  // every frame shown at or after this one decodes from here exactly as from the start
  bool odd = false;    // the packet holds half a picture or several: packets cannot be counted as frames
};

// Proofs by codec (`clean`):
//   H.264    an IDR picture. Other key pictures (recovery points: open GOP, intra refresh) prove nothing.
//   HEVC     an IDR picture or a CRA picture: by the standard all pictures shown after it depend on nothing before it.
//   MPEG-1/2 an I picture with its sequence header, which resets the matrices; shown later means not a leading B
//   picture. MPEG-4   an I picture. VP9: a key frame. AV1: a shown key frame with its sequence header. codecs that know
//   no dependence between pictures at all: every packet.
// For the first four: only while no parameter set differs from those at the film's start.
class PacketReader {
 public:
  PacketReader(int codec, std::span<const std::uint8_t> extradata);

  // Packets in decoding order; `key` is the container's flag.
  PacketFacts read(std::span<const std::uint8_t> packet, bool key);

 private:
  using Bytes = std::span<const std::uint8_t>;

  PacketFacts read_nals(Bytes packet, bool key);
  PacketFacts read_mpeg2(Bytes packet, bool key);
  PacketFacts read_mpeg4(Bytes packet, bool key);
  void remember(Bytes parameters);

  int codec_;
  bool intra_only_ = false;
  int length_bytes_ = 0;              // of NAL units in MP4 and Matroska; 0: start codes
  bool first_ = true;                 // the first packet may still bring parameter sets
  bool parameters_changed_ = false;   // since then
  std::set<std::size_t> parameters_;  // hashes of the parameter sets known at the start
};

}  // namespace zoetrope
