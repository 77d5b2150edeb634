// Drives a model step by step in tests, as the engine does: sequences own pages of a cache, a step takes the next
// tokens of some of them. Pages are dirtied before they are opened and their ids are scattered, so that nothing depends
// on either.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/rotary.h"
#include "parallel/ranks.h"
#include "runtime/model/model.h"

namespace zoetrope::test {

// A prompt with everything a decoder needs of it, and how far it has come.
struct TestSequence {
  std::vector<std::int32_t> tokens;
  std::vector<Position> positions;          // one per token
  std::vector<std::int64_t> visual_tokens;  // indices of tokens that show something, ascending
  std::vector<float> visual;                // [visual_tokens, feature columns]
  std::int64_t done = 0;                    // tokens whose K and V are in the cache
  std::vector<std::int32_t> pages;
};

class Stepper {
 public:
  Stepper(Model& model, std::int32_t pages);

  struct Part {
    TestSequence* sequence = nullptr;
    std::int64_t tokens = 0;  // the next ones
  };
  // The logits of every row of the step, [rows, V] in the order of `parts`. Without parts the rank only joins.
  std::vector<float> step(std::span<const Part> parts);
  std::vector<float> step(TestSequence& sequence, std::int64_t tokens);

 private:
  void add(const Part& part, StepInputs& inputs);
  std::int32_t open_page();

  Model& model_;
  KvCache cache_;
  std::int32_t pages_;
  std::int32_t opened_ = 0;
  std::vector<float> visual_;
};

}  // namespace zoetrope::test
