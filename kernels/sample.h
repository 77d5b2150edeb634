// From the logits of one row to a token: penalties, temperature, top-k, top-p, min-p in the reference's order
// (reference 7.3), draws from a counter-based generator (one-answer rules 5 and 8).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/compute.h"

namespace zoetrope {

struct SamplingSettings {
  double temperature = 1.0;  // 0 means greedy
  int top_k = 0;             // 0 means all
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;  // prompt and generated ids, once per distinct id
  double presence_penalty = 0.0;    // generated ids only (OpenAI)
  double frequency_penalty = 0.0;
  std::uint64_t seed = 0;
  std::uint32_t choice = 0;  // index of the choice (n > 1)
  int top_logprobs = 0;      // how many alternatives to report
};

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0.0f;
};

struct Sampled {
  std::int32_t token = 0;
  float logprob = 0.0f;  // of the model's own distribution (before temperature and cuts), log base e
  std::vector<TokenLogprob> top;
};

// logits [V] fp32, which may be overwritten. prompt and generated: token ids so far. position: index of the token being
// drawn. Greedy: the largest logit, ties to the lowest id. A logit that is no finite number is refused (Error(kRequest)
// naming its id), so are settings out of range. The pool is not used: rows may be sampled in parallel by the pieces of
// a parallel_for. Order: repetition penalty, presence and frequency penalties, temperature, top-k (everything equal to
// the k-th stays), top-p (falling; among equal logits the higher id stays), min-p, softmax, draw.
Sampled sample(const Compute& compute, std::span<float> logits, std::span<const std::int32_t> prompt,
               std::span<const std::int32_t> generated, std::int64_t position, const SamplingSettings& settings);

// The distribution that sample() draws from, for tests against the reference: probabilities [V], 0 where cut.
std::vector<float> sampling_distribution(std::span<float> logits, std::span<const std::int32_t> prompt,
                                         std::span<const std::int32_t> generated, const SamplingSettings& settings);

// Philox 4x32-10: four words for (key, counter).
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 2> key, std::array<std::uint32_t, 4> counter);

}  // namespace zoetrope
