// What one rank does with a StepMessage: frames to pixels to features, tokens to logits, logits to tokens.
// Owned by the engine thread of its rank; decides nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "parallel/ranks.h"
#include "runtime/engine/step_message.h"
#include "runtime/model/model.h"
#include "runtime/prompt/prompt.h"

namespace zoetrope {

class StepRunner {
 public:
  // pages: KV pages of this rank's member.
  StepRunner(Model& model, Ranks& ranks, const Compute& compute, std::int32_t pages, RingTransport transport);

  // Collective: every rank is called with the same message.
  StepResult run(const StepMessage& message);

  std::string ring_transport() const { return cache_.ring_memory().described(); }  // for the log

 private:
  // Visual features of one unit, waiting for their tokens: [tokens that this member computes, feature_columns].
  struct Features {
    std::vector<float> rows;
  };
  struct Sequence {
    Prompt prompt;
    SamplingSettings sampling;
    Span span;
    std::vector<std::int32_t> pages;       // block table
    std::vector<std::int32_t> generated;   // drawn tokens that were computed or are about to be
    std::int64_t computed = 0;
    std::map<std::int32_t, Features> features;  // by unit
  };
  struct Encoded {  // one unit of this step and who encodes it
    RequestId id{};
    std::int32_t unit = 0;
    int rank = 0;
    std::int64_t tokens = 0;
  };

  void begin(const StepMessage& message);
  void encode(const StepPlan& plan, StepResult& result);
  std::vector<Encoded> deal(const std::vector<EncodeUnit>& units) const;
  void encode_own(const std::vector<Encoded>& dealt, std::vector<std::vector<float>>& rows, StepResult& result);
  void exchange_features(const std::vector<Encoded>& dealt, std::vector<std::vector<float>>& rows);
  void stage(const Chunk& chunk, StepInputs& inputs, std::vector<Chunk>& own);
  void stage_visual(Sequence& sequence, const Chunk& chunk, std::int64_t first_row, StepInputs& inputs);
  void draw(const std::vector<Chunk>& own, StepResult& result);
  int slot(const Sequence& sequence) const { return sequence.span.slot_of(ranks_.place.member); }
  bool computes(const Sequence& sequence, std::int64_t index) const { return sequence.span.computes(index) == ranks_.place.member; }

  Model& model_;
  Ranks& ranks_;
  Compute compute_;
  KvCache cache_;
  UnitReader reader_;
  std::map<RequestId, Sequence> sequences_;
  std::vector<float> patches_, visual_, logits_;
};

}  // namespace zoetrope
