// The row family on sixteen lanes (simd.h), written once and compiled for each instruction set by cpu/<isa>/row.cc.
// What is computed, in equations: kernels/reference/row.cc. Sums run in 16 lanes by column mod 16, a last part is
// filled with zeros, lanes meet by halving.
#pragma once

#include <cstdint>

#include "kernels/bodies/row_body.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_math.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {
namespace row_kernels {

// A run of columns: all sixteen, or the first `count`.
struct Whole {};
struct Part {
  int count;
};
[[gnu::always_inline]] inline F32x16 load(const float* p, Whole) { return ZOETROPE_ISA::load(p); }
[[gnu::always_inline]] inline F32x16 load(const float* p, Part part) { return load_first(p, part.count); }
[[gnu::always_inline]] inline F32x16 load(const std::uint16_t* p, Whole) { return load_bf16(p); }
[[gnu::always_inline]] inline F32x16 load(const std::uint16_t* p, Part part) { return load_bf16_first(p, part.count); }
[[gnu::always_inline]] inline void store(float* p, F32x16 v, Whole) { ZOETROPE_ISA::store(p, v); }
[[gnu::always_inline]] inline void store(float* p, F32x16 v, Part part) { store_first(p, v, part.count); }
// v in the lanes of the run, `rest` in the others.
[[gnu::always_inline]] inline F32x16 within(F32x16 v, F32x16, Whole) { return v; }
[[gnu::always_inline]] inline F32x16 within(F32x16 v, F32x16 rest, Part part) {
  return select(first_lanes(part.count), v, rest);
}

// Calls run(column, Whole or Part) over n columns.
template <typename Run>
[[gnu::always_inline]] inline void over_columns(std::int64_t n, Run run) {
  std::int64_t column = 0;
  for (; column + 16 <= n; column += 16) {
    run(column, Whole{});
  }
  if (column < n) {
    run(column, Part{static_cast<int>(n - column)});
  }
}

[[gnu::always_inline]] inline float lane0_sqrt(float x) {  // std::sqrt, free of the linker's choice (simd.h)
  return sum(within(sqrt(broadcast(x)), zero(), Part{1}));
}

inline void rms_norm_group(const float* x, const NormArgs& args, float* out) {
  F32x16 squares = zero();
  over_columns(args.group, [&](std::int64_t j, auto run) {
    const F32x16 v = load(x + j, run);
    squares = fma(v, v, squares);
  });
  const float mean = sum(squares) / static_cast<float>(args.group);
  const F32x16 scale = broadcast(1.0f / lane0_sqrt(mean + args.eps));
  over_columns(args.group, [&](std::int64_t j, auto run) {
    const F32x16 normal = load(x + j, run) * scale;
    store(out + j, load(args.weight + j, run) * normal, run);
  });
}

inline void layer_norm_group(const float* x, const NormArgs& args, float* out) {
  const auto n = static_cast<float>(args.group);
  F32x16 total = zero();
  over_columns(args.group, [&](std::int64_t j, auto run) { total = total + load(x + j, run); });
  const F32x16 mean = broadcast(sum(total) / n);
  F32x16 squares = zero();
  over_columns(args.group, [&](std::int64_t j, auto run) {
    const F32x16 d = within(load(x + j, run) - mean, zero(), run);
    squares = fma(d, d, squares);
  });
  const F32x16 deviation = broadcast(lane0_sqrt(sum(squares) / n + args.eps));
  over_columns(args.group, [&](std::int64_t j, auto run) {
    const F32x16 normal = (load(x + j, run) - mean) / deviation;
    store(out + j, normal * load(args.weight + j, run) + load(args.bias + j, run), run);
  });
}

// The norm of every group of every row.
template <void (*kGroup)(const float*, const NormArgs&, float*)>
void norm_rows(const NormArgs& args, std::int64_t first, std::int64_t last) {
  for (std::int64_t r = first; r < last; ++r) {
    for (std::int64_t column = 0; column < args.x.columns; column += args.group) {
      kGroup(args.x.data + r * args.x.stride + column, args, args.out.data + r * args.out.stride + column);
    }
  }
}

inline void rms_norm(const NormArgs& args, std::int64_t first, std::int64_t last) {
  norm_rows<rms_norm_group>(args, first, last);
}

inline void layer_norm(const NormArgs& args, std::int64_t first, std::int64_t last) {
  norm_rows<layer_norm_group>(args, first, last);
}

inline void rotate(const RotateArgs& args, std::int64_t first, std::int64_t last) {
  const std::int64_t half = args.head_dim / 2;
  for (std::int64_t r = first; r < last; ++r) {
    const float* cos = args.cos.data + r * args.cos.stride;
    const float* sin = args.sin.data + r * args.sin.stride;
    float* row = args.x.data + r * args.x.stride;
    for (float* head = row; head < row + args.x.columns; head += args.head_dim) {
      over_columns(half, [&](std::int64_t j, auto run) {
        const F32x16 a = load(head + j, run);
        const F32x16 b = load(head + half + j, run);
        const F32x16 c = load(cos + j, run);
        const F32x16 s = load(sin + j, run);
        store(head + j, a * c - b * s, run);
        store(head + half + j, b * c + a * s, run);
      });
    }
  }
}

inline void add(float* h, const float* x, std::int64_t n) {
  over_columns(n, [&](std::int64_t j, auto run) { store(h + j, load(h + j, run) + load(x + j, run), run); });
}

inline void widen(const Bf16* x, float* out, std::int64_t n) {
  over_columns(n, [&](std::int64_t j, auto run) { store(out + j, load(x + j, run), run); });
}

inline void interpolate(const Corners& corners, float* out, std::int64_t n) {
  over_columns(n, [&](std::int64_t j, auto run) {
    F32x16 e = load(corners.row[0] + j, run) * broadcast(corners.weight[0]);
    for (int corner = 1; corner < 4; ++corner) {
      e = e + load(corners.row[corner] + j, run) * broadcast(corners.weight[corner]);
    }
    store(out + j, e, run);
  });
}

template <F32x16 (*kFunction)(F32x16)>
void apply(const float* x, float* out, std::int64_t n) {
  over_columns(n, [&](std::int64_t j, auto run) { store(out + j, kFunction(load(x + j, run)), run); });
}

inline void elementary(Elementary function, const float* x, float* out, std::int64_t n) {
  switch (function) {
    case Elementary::kExp2:
      return apply<ZOETROPE_ISA::exp2>(x, out, n);
    case Elementary::kExp:
      return apply<ZOETROPE_ISA::exp>(x, out, n);
    case Elementary::kTanh:
      return apply<ZOETROPE_ISA::tanh>(x, out, n);
    case Elementary::kErf:
      return apply<ZOETROPE_ISA::erf>(x, out, n);
    case Elementary::kSilu:
      return apply<ZOETROPE_ISA::silu>(x, out, n);
    case Elementary::kGeluTanh:
      return apply<ZOETROPE_ISA::gelu_tanh>(x, out, n);
    case Elementary::kGeluErf:
      return apply<ZOETROPE_ISA::gelu_erf>(x, out, n);
    case Elementary::kRoundBf16:
      return apply<round_bf16>(x, out, n);
  }
}

inline constexpr float kLowest = -3.402823466e38f;

[[gnu::always_inline]] inline F32x16 largest_by_lane(const float* x, std::int64_t n) {
  F32x16 largest = broadcast(kLowest);
  over_columns(
      n, [&](std::int64_t j, auto run) { largest = max(largest, within(load(x + j, run), broadcast(kLowest), run)); });
  return largest;
}

inline float row_maximum(const float* x, std::int64_t n) { return maximum(largest_by_lane(x, n)); }

inline void lane_maxima(const float* x, std::int64_t n, float* maxima) {
  ZOETROPE_ISA::store(maxima, largest_by_lane(x, n));
}

inline void slice_exp(const float* logits, std::int64_t n, float maximum, float* out) {
  const F32x16 m = broadcast(maximum);
  over_columns(n, [&](std::int64_t j, auto run) { store(out + j, exp(load(logits + j, run) - m), run); });
}

inline SliceSum slice_sum(const float* logits, std::int64_t n) {
  const float largest = row_maximum(logits, n);
  F32x16 total = zero();
  over_columns(n, [&](std::int64_t j, auto run) {
    total = total + within(exp(load(logits + j, run) - broadcast(largest)), zero(), run);
  });
  return {largest, sum(total)};
}

inline void softmax(const float* logits, float* probabilities, std::int64_t n) {
  const F32x16 largest = broadcast(row_maximum(logits, n));
  F32x16 total = zero();
  over_columns(n, [&](std::int64_t j, auto run) {
    const F32x16 e = within(exp(load(logits + j, run) - largest), zero(), run);
    total = total + e;
    store(probabilities + j, e, run);
  });
  const F32x16 whole = broadcast(sum(total));
  over_columns(n,
               [&](std::int64_t j, auto run) { store(probabilities + j, load(probabilities + j, run) / whole, run); });
}

// The places of a token's experts, in ascending index of the expert.
inline void ascending(const std::int32_t* experts, std::int64_t k, std::int64_t* places) {
  for (std::int64_t i = 0; i < k; ++i) {
    std::int64_t at = i;
    for (; at > 0 && experts[places[at - 1]] > experts[i]; --at) {
      places[at] = places[at - 1];
    }
    places[at] = i;
  }
}

inline void combine(const CombineArgs& args, std::int64_t first, std::int64_t last) {
  const std::int64_t k = args.slots.columns;
  std::int64_t places[kChosenExpertsMax];
  const float* outputs[kChosenExpertsMax];
  float weights[kChosenExpertsMax];
  for (std::int64_t t = first; t < last; ++t) {
    ascending(args.experts.data + t * args.experts.stride, k, places);
    for (std::int64_t i = 0; i < k; ++i) {
      outputs[i] = args.outputs.data + args.slots.data[t * args.slots.stride + places[i]] * args.outputs.stride;
      weights[i] = args.weights.data[t * args.weights.stride + places[i]];
    }
    float* out = args.out.data + t * args.out.stride;
    over_columns(args.out.columns, [&](std::int64_t j, auto run) {
      F32x16 total = zero();
      for (std::int64_t i = 0; i < k; ++i) {
        total = total + load(outputs[i] + j, run) * broadcast(weights[i]);
      }
      store(out + j, total, run);
    });
  }
}

inline void divide(float* x, std::int64_t n, float divisor) {
  const F32x16 d = broadcast(divisor);
  over_columns(n, [&](std::int64_t j, auto run) { store(x + j, load(x + j, run) / d, run); });
}

inline std::int64_t first_not_finite(const float* x, std::int64_t n) {
  for (std::int64_t j = 0; j < n; j += 16) {
    const F32x16 v = n - j >= 16 ? ZOETROPE_ISA::load(x + j) : load_first(x + j, static_cast<int>(n - j));
    const std::uint32_t found = mask_bits(is_nan(v - v));  // infinity - infinity is NaN
    if (found != 0) {
      return j + __builtin_ctz(found);
    }
  }
  return -1;
}

inline std::int64_t at_least(const float* x, std::int64_t n, float threshold, std::int32_t* indices) {
  std::int64_t count = 0;
  const F32x16 limit = broadcast(threshold);
  for (std::int64_t j = 0; j < n; j += 16) {
    const std::int64_t here = n - j < 16 ? n - j : 16;
    const F32x16 v = here == 16 ? ZOETROPE_ISA::load(x + j) : load_first(x + j, static_cast<int>(here));
    std::uint32_t found = ~mask_bits(less(v, limit)) & ((1U << here) - 1U);
    for (; found != 0; found &= found - 1) {
      indices[count++] = static_cast<std::int32_t>(j + __builtin_ctz(found));
    }
  }
  return count;
}

inline constexpr RowBody kBody{rms_norm,   layer_norm,       rotate,  add,       widen,     interpolate,
                               elementary, softmax,          combine, slice_sum, slice_exp, lane_maxima,
                               divide,     first_not_finite, at_least};

}  // namespace row_kernels
}  // namespace ZOETROPE_ISA
}  // namespace zoetrope
