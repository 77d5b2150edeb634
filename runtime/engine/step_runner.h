// What one rank does with a StepMessage: units to features (film_rounds.h), tokens to logits, logits to tokens.
// Owned by the engine thread of its rank; decides nothing.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "parallel/ranks.h"
#include "runtime/engine/film_rounds.h"
#include "runtime/engine/step_message.h"
#include "runtime/model/model.h"
#include "runtime/model/page_moves.h"
#include "runtime/prompt/prompt.h"

namespace zoetrope {

class StepRunner {
 public:
  // pages: KV pages of this rank's member.
  StepRunner(Model& model, Ranks& ranks, const Compute& compute, std::int32_t pages, RingTransport transport);

  // Collective: every rank is called with the same message. Takes the payloads out of it.
  StepResult run(StepMessage& message);

  // True when the members of the span send each other pages and rows instead of seeing each other's pools.
  bool sends_pages(const Span& span) const;
  // [ring] equal for members that see each other's pools; empty where nobody tried.
  const std::vector<std::int32_t>& hosts() const { return cache_.ring_memory().hosts(); }
  std::int64_t kv_bytes(std::int64_t pages) const { return cache_.resident_bytes(pages); }
  std::string ring_transport() const { return cache_.ring_memory().described(); }  // for the log

 private:
  void execute(StepMessage& message, StepResult& result);
  struct Sequence {
    Prompt prompt;
    SamplingSettings sampling;
    Span span;
    std::vector<std::int32_t> pages;      // block table
    std::vector<std::int32_t> generated;  // drawn tokens that were computed or are about to be
    std::int64_t computed = 0;
  };

  void begin(StepMessage& message);
  // Chunks that go through the layers together; `next`: those behind them, none after the last.
  void run_wave(std::span<const Chunk> wave, std::span<const Chunk> next, StepResult& result);
  void grow(const Growth& growth, bool at_once);
  bool takes_what_is_left(const Growth& growth, const StepPlan& plan) const;
  void stage(const Chunk& chunk, StepInputs& inputs, std::vector<Chunk>& own);
  void draw(const std::vector<Chunk>& own, StepResult& result);
  int slot(const Sequence& sequence) const { return sequence.span.slot_of(ranks_.place.member); }
  bool computes(const Sequence& sequence, std::int64_t index) const {
    return sequence.span.computes(index) == ranks_.place.member;
  }

  Model& model_;
  Ranks& ranks_;
  Compute compute_;
  KvCache cache_;
  PageMoves moves_;
  FilmRounds rounds_;
  std::map<RequestId, Sequence> sequences_;
  std::vector<float> visual_, logits_;
  double forward_seconds_ = 0;
  std::uint64_t attention_pairs_ = 0;
};

}  // namespace zoetrope
