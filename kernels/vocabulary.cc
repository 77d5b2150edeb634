#include "kernels/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

// a and b relative to the larger maximum: a's part first.
SliceSum merge(const RowBody& row, const SliceSum& a, const SliceSum& b) {
  const float maxima[2] = {a.maximum, b.maximum};
  const float maximum = std::max(a.maximum, b.maximum);
  float scale[2];
  row.slice_exp(maxima, 2, maximum, scale);
  return {maximum, std::fma(b.sum, scale[1], a.sum * scale[0])};
}

}  // namespace

std::size_t vocabulary_slice(std::size_t vocabulary, std::size_t s) {
  return std::min(vocabulary, s * div_ceil(vocabulary, kVocabularySlices));
}

double tree_sum(std::array<double, kVocabularySlices> parts) {
  for (std::size_t step = 1; step < kVocabularySlices; step *= 2) {
    for (std::size_t s = 0; s < kVocabularySlices; s += 2 * step) {
      parts[s] += parts[s + step];
    }
  }
  return parts[0];
}

LogNormaliser::LogNormaliser(const RowBody& row, std::span<const float> logits) {
  std::array<SliceSum, kVocabularySlices> slices;
  std::array<bool, kVocabularySlices> present{};
  for (std::size_t s = 0; s < kVocabularySlices; ++s) {
    const std::size_t first = vocabulary_slice(logits.size(), s);
    const std::size_t count = vocabulary_slice(logits.size(), s + 1) - first;
    present[s] = count > 0;
    if (present[s]) {
      slices[s] = row.slice_sum(logits.data() + first, static_cast<std::int64_t>(count));
    }
  }
  for (std::size_t step = 1; step < kVocabularySlices; step *= 2) {  // empty slices stand at the end only
    for (std::size_t s = 0; s < kVocabularySlices; s += 2 * step) {
      if (present[s + step]) {
        slices[s] = merge(row, slices[s], slices[s + step]);
      }
    }
  }
  maximum_ = static_cast<double>(slices[0].maximum);
  log_sum_ = natural_log(static_cast<double>(slices[0].sum));
}

float LogNormaliser::logprob(float logit) const {
  return static_cast<float>((static_cast<double>(logit) - maximum_) - log_sum_);
}

float kth_largest(const RowBody& row, std::span<const float> x, std::int64_t k) {
  const auto n = static_cast<std::int64_t>(x.size());
  check(k >= 1 && k <= n, "the k-th largest of fewer than k");
  std::vector<float> left;
  // The maxima of any disjoint groups are different elements, so the k-th largest of them is a lower bound: a pass over
  // all, then only the few above the bound are looked at. 16 k groups make it a close one.
  const std::int64_t chunks = std::max<std::int64_t>(k, 16);
  if (n / chunks >= 32) {
    std::vector<float> maxima(static_cast<std::size_t>(16 * chunks));
    for (std::int64_t c = 0; c < chunks; ++c) {
      const std::int64_t first = n * c / chunks;
      row.lane_maxima(x.data() + first, n * (c + 1) / chunks - first, maxima.data() + 16 * c);
    }
    std::nth_element(maxima.begin(), maxima.begin() + (k - 1), maxima.end(), std::greater<>());
    for (const std::int32_t id : ids_at_least(row, x, maxima[static_cast<std::size_t>(k - 1)])) {
      left.push_back(x[static_cast<std::size_t>(id)]);
    }
  } else {
    left.assign(x.begin(), x.end());
  }
  std::nth_element(left.begin(), left.begin() + (k - 1), left.end(), std::greater<>());
  return left[static_cast<std::size_t>(k - 1)];
}

std::vector<std::int32_t> ids_at_least(const RowBody& row, std::span<const float> logits, float threshold) {
  constexpr std::size_t kStretch = 4096;  // few pass as a rule: no room for all of them is set aside
  std::array<std::int32_t, kStretch> here;
  std::vector<std::int32_t> ids;
  for (std::size_t first = 0; first < logits.size(); first += kStretch) {
    const auto length = static_cast<std::int64_t>(std::min(kStretch, logits.size() - first));
    const std::int64_t count = row.at_least(logits.data() + first, length, threshold, here.data());
    for (std::int64_t i = 0; i < count; ++i) {
      ids.push_back(here[static_cast<std::size_t>(i)] + static_cast<std::int32_t>(first));
    }
  }
  return ids;
}

double natural_log(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // x = m 2^exponent, 1/2 <= m < 1
  if (m < 0.70710678118654752) {
    m *= 2.0;
    --exponent;
  }
  // log m = 2 artanh z = 2 (z + z^3/3 + z^5/5 + ...), z = (m - 1) / (m + 1), |z| <= 0.1716
  const double z = (m - 1.0) / (m + 1.0);
  const double square = z * z;
  double series = 0.0;
  for (int power = 21; power >= 1; power -= 2) {
    series = series * square + 1.0 / power;
  }
  return static_cast<double>(exponent) * 0.69314718055994530942 + 2.0 * z * series;
}

}  // namespace zoetrope
