// Sequences of random tokens for benchmarks of a model, without media or text.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/compute.h"
#include "runtime/model/model.h"

namespace zoetrope {

// Streams of this member with some context already there. The context is zero-filled pages that were really written:
// attention reads every byte of them, and its time does not depend on the values.
class Streams {
 public:
  // Room for `tokens` tokens of each stream. The model outlives this.
  Streams(Model& model, int streams, std::int64_t tokens);

  // One wave: `rows` tokens of every stream from token `first` on; `next_rows`: of every stream in the wave behind
  // it, 0: none is behind it, and then the last stage makes logits of the last row of each.
  void step(std::int64_t first, std::int64_t rows, std::int64_t next_rows = 0);
  // A token from the logits of each stream's last step, greedily; nothing where there are no logits.
  void draw(const Compute& compute, std::int64_t position);

 private:
  std::int64_t vocabulary() const { return model_.config().text.vocabulary; }
  std::int32_t page(int stream, std::int64_t index) const {
    return stream * pages_each_ + static_cast<std::int32_t>(index / kPageTokens);
  }

  Model& model_;
  std::int32_t pages_each_;
  KvCache cache_;
  int streams_;
  std::vector<float> logits_;
  std::mt19937_64 random_{1};
};

}  // namespace zoetrope
