// From a ChatRequest to what the model reads: token ids, three-axis positions and the visual units behind the
// placeholder tokens. Planned before a pixel is decoded (reference 5 and 6.3). A value: it travels to all ranks beside
// the step plan.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "kernels/rotary.h"
#include "runtime/media/processor.h"
#include "runtime/media/source.h"
#include "runtime/prompt/chat_request.h"
#include "runtime/text/tokenizer.h"

namespace zoetrope {

// A picture, a film or a list of pictures of the conversation, with everything a rank needs to produce its pixels.
struct Medium {
  enum class Kind { kPicture, kFilm, kPictureList };
  Kind kind = Kind::kPicture;
  std::vector<MediaSource> sources;            // one, or the pictures of a list
  int resized_height = 0, resized_width = 0;   // pixels
  Grid grid;                                   // t = frame pairs (1 for a picture), h, w in patches
  std::vector<std::int64_t> frames;            // film: source frame of every sampled frame, even count after padding
  bool rotate = true;                          // film: apply the display matrix
  MediaReport report;
};

// What the vision tower encodes at once: a picture or one pair of frames.
struct VisualUnit {
  std::int32_t medium = 0;
  std::int32_t pair = 0;           // index of the frame pair inside the medium
  std::int64_t first_token = 0;    // of its run of placeholder tokens
  std::int64_t tokens = 0;         // grid.h * grid.w / 4
  std::int64_t clean = 1;          // 1: nothing that the unit before it needs has to be decoded for it
  std::array<std::uint64_t, 4> fingerprint{};  // of everything its features depend on, where PromptWriter::fingerprints
};

struct Prompt {
  std::vector<TokenId> tokens;       // [T]
  std::vector<Position> positions;   // [T]
  std::int64_t rope_delta = 0;       // token n (n >= T) has position n + rope_delta on all axes
  std::vector<Medium> media;
  std::vector<VisualUnit> units;     // in token order
};

// Gives every unit the SHA-256 of what its features depend on: the bytes of its file or picture, its frames, the size
// they are seen in, and whether they are turned. Error(kRequest): a file that cannot be read.
void fingerprint_units(Prompt& prompt);

// Positions of reference section 5 for tokens with visual runs at `units`.
void lay_out_positions(Prompt& prompt);

// Everything that turns requests into prompts; const after construction, thread-compatible.
struct PromptWriter {
  const Tokenizer* tokenizer = nullptr;
  const ChatTemplate* chat_template = nullptr;
  ImageProcessor image;
  VideoProcessor video;
  std::int32_t image_token = 0, video_token = 0, vision_start = 0, vision_end = 0;
  std::int64_t context_tokens_max = 0;
  bool fingerprints =
      false;  // digest the media, so that prompts about the same ones can share what is computed of them

  // Looks at the media (demux-only pass), renders, expands, tokenises in one go. Error(kRequest) with what to change.
  Prompt write(const ChatRequest& request) const;
};

std::vector<std::byte> encoded(const Prompt& prompt);
Prompt decoded_prompt(std::span<const std::byte> bytes);

// Produces the patches of visual units; one thread uses it. Keeps the decoder of the film it is in open between calls,
// so that pairs of one film read in rising order cost one linear decode. Memory: one decoder and two frames.
class UnitReader {
 public:
  UnitReader();
  ~UnitReader();
  // Bytes of the patches [grid.h * grid.w, 1536] of a picture or a pair of frames (media/patches.h). Error(kRequest)
  // naming film, frame and time; also when `stop` asks to give up.
  void read(const Medium& medium, std::int32_t pair, std::span<std::uint8_t> patches, const std::stop_token& stop = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace zoetrope
