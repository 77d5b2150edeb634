// Where one head of one page lies and how tokens get there: the packed layout of bodies/attention_body.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

// K and V of one head of consecutive tokens: token t at k + t * k_stride and v + t * v_stride.
struct HeadTokens {
  const float* k = nullptr;
  const float* v = nullptr;
  std::int64_t k_stride = 0;
  std::int64_t v_stride = 0;
  int count = 0;
};

// The word that holds a pair of bf16 numbers in memory.
inline void write_pair(std::byte* word, float even, float odd) {
  const std::uint32_t bits = static_cast<std::uint32_t>(to_bf16(even)) | static_cast<std::uint32_t>(to_bf16(odd)) << 16;
  std::memcpy(word, &bits, sizeof bits);
}

// Lanes of a key panel are positions: a token is a column of words, one for two elements of head_dim.
inline void append_keys_bf16(int head_dim, std::byte* keys, int row, const HeadTokens& tokens) {
  constexpr std::int64_t kWord = 2 * sizeof(Bf16);
  for (int t = 0; t < tokens.count; ++t) {
    const std::int64_t position = row + t;
    const float* k = tokens.k + t * tokens.k_stride;
    std::byte* word = keys + (position / kPanelLanes * (head_dim / 2) * kPanelLanes + position % kPanelLanes) * kWord;
    for (int d = 0; d < head_dim; d += 2, word += kPanelLanes * kWord) {
      write_pair(word, k[d], k[d + 1]);
    }
  }
}

// Lanes of a value panel are columns of head_dim: a token is one half of a row of words, two tokens at once are all of
// it.
inline void append_values_bf16(int head_dim, std::byte* values, int row, const HeadTokens& tokens) {
  constexpr std::int64_t kRowBytes = 2 * kPanelLanes * sizeof(Bf16);
  constexpr std::int64_t kPanelBytes = kPageTokens / 2 * kRowBytes;
  for (int t = 0; t < tokens.count;) {
    const int position = row + t;
    const bool pair = position % 2 == 0 && t + 1 < tokens.count;
    const float* v = tokens.v + t * tokens.v_stride;
    for (int d = 0; d < head_dim; d += kPanelLanes) {
      std::byte* words = values + d / kPanelLanes * kPanelBytes + position / 2 * kRowBytes;
      const int lanes = std::min(kPanelLanes, head_dim - d);
      if (pair) {
        for (int lane = 0; lane < lanes; ++lane) {
          write_pair(words + lane * std::int64_t{2 * sizeof(Bf16)}, v[d + lane], v[tokens.v_stride + d + lane]);
        }
      } else {
        Bf16* halves = reinterpret_cast<Bf16*>(words) + position % 2;
        for (int lane = 0; lane < lanes; ++lane) {
          halves[2 * lane] = to_bf16(v[d + lane]);
        }
      }
    }
    t += pair ? 2 : 1;
  }
}

inline void append_fp32(int head_dim, float* keys, float* values, int row, const HeadTokens& tokens) {
  for (int t = 0; t < tokens.count; ++t) {
    const std::int64_t position = row + t;
    const float* k = tokens.k + t * tokens.k_stride;
    const float* v = tokens.v + t * tokens.v_stride;
    float* column = keys + position / kPanelLanes * head_dim * kPanelLanes + position % kPanelLanes;
    for (int d = 0; d < head_dim; ++d) {
      column[std::int64_t{d} * kPanelLanes] = k[d];
    }
    for (int d = 0; d < head_dim; d += kPanelLanes) {
      std::copy_n(v + d, std::min(kPanelLanes, head_dim - d),
                  values + (std::int64_t{d} * kPageTokens + position * kPanelLanes));
    }
  }
}

// Writes tokens row .. row + count - 1 of one head of a page.
inline void append_tokens(const KvLayout& layout, std::byte* head, int row, const HeadTokens& tokens) {
  std::byte* values = head + keys_bytes(layout);
  if (layout.precision == Precision::kBf16) {
    append_keys_bf16(layout.head_dim, head, row, tokens);
    append_values_bf16(layout.head_dim, values, row, tokens);
  } else {
    append_fp32(layout.head_dim, reinterpret_cast<float*>(head), reinterpret_cast<float*>(values), row, tokens);
  }
}

}  // namespace zoetrope
