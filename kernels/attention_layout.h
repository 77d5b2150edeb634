// Where one head of one page lies and how tokens get there: the packed layout of bodies/attention_body.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>

#include "kernels/attention.h"
#include "kernels/bodies/attention_body.h"

namespace zoetrope {

inline void check_head_dim(int head_dim) {
  check(head_dim > 0 && head_dim % 2 == 0 && head_dim <= kMaxHeadDim, "attention: head_dim");
}

// Scores in units of log2: e^x = exp2(x log2 e).
inline float log2_scale(int head_dim) {
  return static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(head_dim)));
}

inline std::size_t element_bytes(Precision precision) {
  return precision == Precision::kBf16 ? sizeof(Bf16) : sizeof(float);
}

inline std::size_t keys_bytes(const KvLayout& layout) {
  return static_cast<std::size_t>(layout.head_dim) * kPageTokens * element_bytes(layout.precision);
}

// `lane` is the index that lanes of a panel count, `step` the index of its walk of `steps` steps.
template <typename T>
std::int64_t panel_offset(std::int64_t lane, std::int64_t step, std::int64_t steps) {
  const std::int64_t panel = lane / kPanelLanes * steps * kPanelLanes;
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    return panel + step / 2 * (2 * kPanelLanes) + lane % kPanelLanes * 2 + step % 2;
  } else {
    return panel + step * kPanelLanes + lane % kPanelLanes;
  }
}

template <typename T>
T stored(float value) {
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    return to_bf16(value);
  } else {
    return value;
  }
}

// Writes one token's K and V of one head.
template <typename T>
void append_token(const KvLayout& layout, std::byte* head, int row, const float* k, const float* v) {
  T* keys = reinterpret_cast<T*>(head) + panel_offset<T>(row, 0, layout.head_dim);
  T* values = reinterpret_cast<T*>(head + keys_bytes(layout));
  for (int d = 0; d < layout.head_dim; ++d) {
    keys[panel_offset<T>(0, d, layout.head_dim)] = stored<T>(k[d]);
    values[panel_offset<T>(d, row, kPageTokens)] = stored<T>(v[d]);
  }
}

inline void append_token(const KvLayout& layout, std::byte* head, int row, const float* k, const float* v) {
  if (layout.precision == Precision::kBf16) {
    append_token<Bf16>(layout, head, row, k, v);
  } else {
    append_token<float>(layout, head, row, k, v);
  }
}

}  // namespace zoetrope
