// Rounds of film: pictures and pairs of frames become visual features, shared by all ranks. Each rank decodes and encodes
// its own contiguous run of a step's units; the features go to the ranks that compute their tokens in one exchange and are
// given up when the last of these tokens has been staged. Owned by the step runner of a rank; decides nothing.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "parallel/ranks.h"
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

  // Collective, with the same plan on every rank: the units of plan.encode, to the ranks of their tokens. Films that cannot
  // be decoded go to result.failed.
  void encode(const StepPlan& plan, StepResult& result);

  // Appends the features of this member's tokens of a chunk to `visual` [n, feature columns] and their rows to
  // inputs.visual_rows; the chunk's first row of this member is `first_row`.
  void stage(const Chunk& chunk, std::int64_t first_row, StepInputs& inputs, std::vector<float>& visual);

 private:
  struct Film {  // the visual side of a sequence
    const Prompt* prompt = nullptr;
    Span span;
    // By unit: [tokens that this member computes, feature columns].
    std::map<std::int32_t, std::vector<float>> features;

    const VisualUnit& unit(std::int32_t index) const { return prompt->units[static_cast<std::size_t>(index)]; }
    const Grid& grid(std::int32_t index) const { return prompt->media[static_cast<std::size_t>(unit(index).medium)].grid; }
  };
  struct Encoded {  // one unit of this step and who encodes it
    RequestId id{};
    std::int32_t unit = 0;
    int rank = 0;
    std::int64_t tokens = 0;
  };

  std::vector<Encoded> deal(const std::vector<EncodeUnit>& units) const;
  void encode_own(const std::vector<Encoded>& dealt, std::vector<std::vector<float>>& rows, StepResult& result);
  void read(const Encoded& unit, std::span<float> patches, StepResult& result);
  void exchange(const std::vector<Encoded>& dealt, std::vector<std::vector<float>>& rows);
  std::vector<Range> runs_for(const Encoded& unit, int rank) const;

  Model& model_;
  Ranks& ranks_;
  Compute compute_;
  UnitReader reader_;
  std::map<RequestId, Film> films_;
  std::vector<float> patches_;
};

}  // namespace zoetrope
