// The vocabulary in 16 canonical slices (docs/one-answer.md rule 5): slice s holds the ids [s n, (s + 1) n) that exist,
// n = ceil(V / 16). Slices at the end may be short or empty. What slices yield meets in the binary tree (0,1)(2,3) ...
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/bodies/row_body.h"

namespace zoetrope {

inline constexpr std::size_t kVocabularySlices = 16;

// First id of slice s of a vocabulary; s = kVocabularySlices gives its size.
std::size_t vocabulary_slice(std::size_t vocabulary, std::size_t s);

double tree_sum(std::array<double, kVocabularySlices> parts);

// log of the sum of e^logit over a row: what turns a logit into a log-probability.
class LogNormaliser {
 public:
  LogNormaliser(const RowBody& row, std::span<const float> logits);
  float logprob(float logit) const;

 private:
  double maximum_ = 0.0;
  double log_sum_ = 0.0;  // of e^(logit - maximum)
};

// The k-th largest of x, 1 <= k <= x.size().
float kth_largest(const RowBody& row, std::span<const float> x, std::int64_t k);
// The ids whose logit is at least the threshold, increasing.
std::vector<std::int32_t> ids_at_least(const RowBody& row, std::span<const float> logits, float threshold);

// Natural logarithm of a positive normal number from additions, products and quotients only: the same bits wherever the
// program runs, which the C library's does not promise. Error below 3e-16 relative to max(1, |log x|).
double natural_log(double x);

}  // namespace zoetrope
