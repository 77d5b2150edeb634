// The golden checkpoints loaded for tests, and prompts for them.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/body.h"
#include "kernels/thread_pool.h"
#include "parallel/ranks.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/model.h"
#include "tests/golden/stepper.h"
#include "tests/golden_folder.h"

namespace zoetrope::test {

inline Checkpoint open_tiny(const std::string& name) {
  return Checkpoint::open(golden_folder() / "checkpoints" / name);
}

inline Compute compute_on(ThreadPool& pool, Precision precision) {
  return {.body = &body(best_body()), .pool = &pool, .precision = precision};
}

inline std::unique_ptr<Model> load_tiny(const Checkpoint& checkpoint, Ranks& ranks, ThreadPool& pool,
                                        Precision precision, Observer observer = {}, std::int64_t shared_rows = 0) {
  return Model::load(checkpoint, ranks,
                     {.compute = compute_on(pool, precision),
                      .observer = std::move(observer),
                      .progress = {},
                      .shared_rows_max = shared_rows});
}

// A prompt of random ids in which some tokens show something: features of a size that a tower gives.
inline TestSequence random_prompt(const ModelConfig& config, std::int64_t tokens, unsigned seed) {
  std::mt19937 random(seed);
  TestSequence s;
  const auto columns = static_cast<std::size_t>(config.text.hidden) * (1 + config.vision.deepstack.size());
  std::normal_distribution<float> feature(0.0F, 0.5F);
  for (std::int32_t i = 0; i < tokens; ++i) {
    s.tokens.push_back(static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(config.text.vocabulary)));
    s.positions.push_back(
        {.t = i, .h = i + static_cast<std::int32_t>(random() % 4), .w = i + static_cast<std::int32_t>(random() % 4)});
    if (i % 5 == 2) {
      s.visual_tokens.push_back(i);
      for (std::size_t c = 0; c < columns; ++c) {
        s.visual.push_back(round_bf16(feature(random)));
      }
    }
  }
  return s;
}

}  // namespace zoetrope::test
