// Entries of the row family in the table of one body. Same bits from every body. The ops (norm.h, rotary.h,
// elementwise.h, router.h, sample.h) have checked the shapes; an entry computes rows [first, last) of its op, or one
// row of n columns, whole and in one order.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace zoetrope {

struct NormArgs {
  Rows<const float> x;
  Rows<float> out;                // may be x
  std::int64_t group = 0;         // columns that share one statistic: the whole row, or one head; divides the columns
  const float* weight = nullptr;  // [group]
  const float* bias = nullptr;    // [group], layer_norm only
  float eps = 0.0f;
};

struct RotateArgs {
  Rows<float> x;          // [T, heads * head_dim], in place
  Rows<const float> cos;  // [T, head_dim / 2]
  Rows<const float> sin;
  std::int64_t head_dim = 0;
};

struct CombineArgs {
  Rows<const float> outputs;
  Rows<const std::int32_t> slots;    // [T, k]
  Rows<const std::int32_t> experts;  // [T, k]
  Rows<const float> weights;         // [T, k]
  Rows<float> out;                   // [T, H]
};
inline constexpr std::int64_t kChosenExpertsMax = 64;

// The four rows of a table that an interpolated row lies between, and their weights.
struct Corners {
  const Bf16* row[4] = {};
  float weight[4] = {};
};

// A slice of logits: its maximum, and the sum of e^(logit - maximum).
struct SliceSum {
  float maximum = 0.0f;
  float sum = 0.0f;
};

enum class Elementary { kExp2, kExp, kTanh, kErf, kSilu, kGeluTanh, kGeluErf, kRoundBf16 };

struct RowBody {
  void (*rms_norm)(const NormArgs& args, std::int64_t first, std::int64_t last);
  void (*layer_norm)(const NormArgs& args, std::int64_t first, std::int64_t last);

  void (*rotate)(const RotateArgs& args, std::int64_t first, std::int64_t last);

  void (*add)(float* h, const float* x, std::int64_t n);  // h = h + x
  void (*widen)(const Bf16* x, float* out, std::int64_t n);
  void (*interpolate)(const Corners& corners, float* out, std::int64_t n);
  // out = f(x); out may be x.
  void (*elementary)(Elementary function, const float* x, float* out, std::int64_t n);

  void (*softmax)(const float* logits, float* probabilities, std::int64_t n);
  void (*combine)(const CombineArgs& args, std::int64_t first, std::int64_t last);

  // Sums in 16 lanes by index in the slice, lanes by halving. n >= 1.
  SliceSum (*slice_sum)(const float* logits, std::int64_t n);
  void (*slice_exp)(const float* logits, std::int64_t n, float maximum, float* out);  // out = e^(logit - maximum)
  void (*lane_maxima)(const float* x, std::int64_t n, float* maxima);  // maxima[i] of the columns i mod 16; n >= 16
  void (*divide)(float* x, std::int64_t n, float divisor);
  std::int64_t (*first_not_finite)(const float* x, std::int64_t n);  // index, or -1
  // The indices with x >= threshold, increasing; there is room for n. Returns how many.
  std::int64_t (*at_least)(const float* x, std::int64_t n, float threshold, std::int32_t* indices);
};

const RowBody& row_body_reference();
const RowBody& row_body_portable();
const RowBody& row_body_avx2();
const RowBody& row_body_avx512();

}  // namespace zoetrope
