// Rounds of film: pictures and pairs of frames become visual features, shared by all ranks, a stretch at a time. Each
// rank decodes the units that the plan deals to it on threads of its own, the next stretches while this one is
// computed. A stretch is encoded in the step that needs the first of it, every rank its part, or what is decoded of it
// before, when nothing else can be computed; the features go to the ranks that compute their tokens in one exchange and
// are given up when the last of these tokens has been staged. Owned by the step runner of a rank; decides nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "parallel/ranks.h"
#include "runtime/engine/decode_ahead.h"
#include "runtime/engine/step_message.h"
#include "runtime/model/model.h"
#include "runtime/prompt/prompt.h"

namespace zoetrope {

class FilmRounds {
 public:
  FilmRounds(Model& model, Ranks& ranks, const Compute& compute);

  // A sequence that comes; `prompt` must stay where it is until end().
  void begin(RequestId id, const Prompt& prompt, const Span& span);
  void end(RequestId id);
  // The span of a sequence grows when `computed` of its tokens are computed: features that wait go to the members that
  // will compute their tokens. Collective over the ring members of the new span.
  void grow(RequestId id, const Span& span, std::int64_t computed);

  // Collective, with the same plan on every rank: begins to decode plan.ahead, encodes plan.encode, sends the features
  // to the ranks of their tokens. Where the plan wants frames now, encodes what is there of later stretches and waits a
  // while for more. Films that cannot be decoded go to result.failed, times to its seconds.
  void encode(const StepPlan& plan, StepResult& result);

  // Units that this rank has still to decode, the first of each sequence.
  std::vector<PendingFrames> pending() const { return decoders_.pending(); }

  // Appends the features of this member's tokens of a chunk to `visual` [n, feature columns] and their rows to
  // inputs.visual_rows; the chunk's first row of this member is `first_row`.
  void stage(const Chunk& chunk, std::int64_t first_row, StepInputs& inputs, std::vector<float>& visual);

 private:
  struct Film {  // the visual side of a sequence
    const Prompt* prompt = nullptr;
    DecodeAhead::Media media;  // of the prompt, shared with the decoders
    Span span;
    std::int32_t units_seen = -1;  // the last that was encoded
    // By unit: [tokens that this member computes, feature columns].
    std::map<std::int32_t, std::vector<float>> features;
    std::map<std::int32_t, std::vector<float>>
        encoded;  // by unit that this rank has encoded before its step: [tokens, all columns]

    const VisualUnit& unit(std::int32_t index) const { return prompt->units[static_cast<std::size_t>(index)]; }
    const Grid& grid(std::int32_t index) const {
      return prompt->media[static_cast<std::size_t>(unit(index).medium)].grid;
    }
  };
  void announce(const std::vector<EncodeUnit>& ahead);
  std::vector<EncodeUnit> next_batch(std::chrono::steady_clock::time_point deadline);
  void encode_ahead(StepResult& result);
  void encode_own(const std::vector<EncodeUnit>& units, StepResult& result);
  void read(const EncodeUnit& unit, std::span<float> patches, StepResult& result);
  void exchange(const std::vector<EncodeUnit>& units, std::vector<std::vector<float>>& rows);
  // Columns of a visual row that the layers of a rank's stage add; none behind those of the DeepStack features.
  Range columns_for(int rank) const {
    return stage_of(model_.config(), ranks_.layout.pp, place_of(ranks_.layout, rank).stage).feature_columns;
  }
  std::vector<float> gathered(const std::vector<float>& unit, const std::vector<Range>& runs, int rank) const;
  std::vector<Range> runs_for(const EncodeUnit& unit, int rank) const;
  std::int64_t tokens_of(const EncodeUnit& unit) const { return films_.at(unit.id).unit(unit.unit).tokens; }

  Model& model_;
  Ranks& ranks_;
  TraceRecorder* trace_;
  DecodeAhead decoders_;
  std::map<RequestId, Film> films_;
  std::deque<EncodeUnit> own_;  // that this rank was told to decode and has not encoded, in order
  std::vector<float> patches_;
};

}  // namespace zoetrope
