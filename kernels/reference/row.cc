// The row family in plain loops: the specification of what every body computes, bit for bit.
// All of it is fp32 in both modes: only what a bf16 multiplier reads is rounded. Sums of a row run in 16 lanes by
// column mod 16, then lane i meets lane i + 8, + 4, + 2, + 1.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/bodies/row_body.h"
#include "kernels/reference/elementary.h"

namespace zoetrope {
namespace {

float lanes_sum(std::array<float, 16> lane) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      lane[i] = lane[i] + lane[i + width];
    }
  }
  return lane[0];
}

// out = w * (x * r), r = 1 / sqrt(mean(x^2) + eps)
void rms_norm_group(const float* x, const NormArgs& args, float* out) {
  std::array<float, 16> squares{};
  for (std::int64_t j = 0; j < args.group; ++j) {
    squares[j % 16] = std::fma(x[j], x[j], squares[j % 16]);
  }
  const float mean = lanes_sum(squares) / static_cast<float>(args.group);
  const float r = 1.0f / std::sqrt(mean + args.eps);
  for (std::int64_t j = 0; j < args.group; ++j) {
    out[j] = args.weight[j] * (x[j] * r);
  }
}

// out = (x - mean) / sqrt(mean((x - mean)^2) + eps) * w + b
void layer_norm_group(const float* x, const NormArgs& args, float* out) {
  const auto n = static_cast<float>(args.group);
  std::array<float, 16> total{};
  for (std::int64_t j = 0; j < args.group; ++j) {
    total[j % 16] += x[j];
  }
  const float mean = lanes_sum(total) / n;
  std::array<float, 16> squares{};
  for (std::int64_t j = 0; j < args.group; ++j) {
    squares[j % 16] = std::fma(x[j] - mean, x[j] - mean, squares[j % 16]);
  }
  const float deviation = std::sqrt(lanes_sum(squares) / n + args.eps);
  for (std::int64_t j = 0; j < args.group; ++j) {
    out[j] = (x[j] - mean) / deviation * args.weight[j] + args.bias[j];
  }
}

template <void (*kGroup)(const float*, const NormArgs&, float*)>
void norm_rows(const NormArgs& args, std::int64_t first, std::int64_t last) {
  for (std::int64_t r = first; r < last; ++r) {
    for (std::int64_t column = 0; column < args.x.columns; column += args.group) {
      kGroup(args.x.row(r) + column, args, args.out.row(r) + column);
    }
  }
}

// (a, b) = (x[i], x[i + D/2]):  x[i] = a cos - b sin,  x[i + D/2] = b cos + a sin.
void rotate(const RotateArgs& args, std::int64_t first, std::int64_t last) {
  const std::int64_t half = args.head_dim / 2;
  for (std::int64_t r = first; r < last; ++r) {
    for (std::int64_t column = 0; column < args.x.columns; column += args.head_dim) {
      float* head = args.x.row(r) + column;
      for (std::int64_t i = 0; i < half; ++i) {
        const float a = head[i];
        const float b = head[i + half];
        const float cos = args.cos.row(r)[i];
        const float sin = args.sin.row(r)[i];
        head[i] = a * cos - b * sin;
        head[i + half] = b * cos + a * sin;
      }
    }
  }
}

void add(float* h, const float* x, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) {
    h[j] = h[j] + x[j];
  }
}

void widen(const Bf16* x, float* out, std::int64_t n) { std::transform(x, x + n, out, from_bf16); }

// ((P0 w0 + P1 w1) + P2 w2) + P3 w3
void interpolate(const Corners& corners, float* out, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) {
    float e = from_bf16(corners.row[0][j]) * corners.weight[0];
    for (int c = 1; c < 4; ++c) {
      e = e + from_bf16(corners.row[c][j]) * corners.weight[c];
    }
    out[j] = e;
  }
}

void elementary(Elementary function, const float* x, float* out, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) {
    out[j] = reference::elementary(function, x[j]);
  }
}

void slice_exp(const float* logits, std::int64_t n, float maximum, float* out) {
  for (std::int64_t j = 0; j < n; ++j) {
    out[j] = reference::exp(logits[j] - maximum);
  }
}

SliceSum slice_sum(const float* logits, std::int64_t n) {
  const float maximum = *std::max_element(logits, logits + n);
  std::array<float, 16> total{};
  for (std::int64_t j = 0; j < n; ++j) {
    total[j % 16] += reference::exp(logits[j] - maximum);
  }
  return {maximum, lanes_sum(total)};
}

// p_i = e^(x_i - max) / sum
void softmax(const float* logits, float* probabilities, std::int64_t n) {
  const SliceSum all = slice_sum(logits, n);
  for (std::int64_t j = 0; j < n; ++j) {
    probabilities[j] = reference::exp(logits[j] - all.maximum) / all.sum;
  }
}

// out = 0 + y_e w_e + ..., e ascending
void combine(const CombineArgs& args, std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> places(static_cast<std::size_t>(args.slots.columns));
  for (std::int64_t t = first; t < last; ++t) {
    const std::int32_t* experts = args.experts.row(t);
    std::iota(places.begin(), places.end(), 0);
    std::sort(places.begin(), places.end(), [&](std::int64_t a, std::int64_t b) { return experts[a] < experts[b]; });
    for (std::int64_t j = 0; j < args.out.columns; ++j) {
      float total = 0.0f;
      for (const std::int64_t place : places) {
        total += args.outputs.row(args.slots.row(t)[place])[j] * args.weights.row(t)[place];
      }
      args.out.row(t)[j] = total;
    }
  }
}

void lane_maxima(const float* x, std::int64_t n, float* maxima) {
  std::copy(x, x + 16, maxima);
  for (std::int64_t j = 16; j < n; ++j) {
    maxima[j % 16] = std::max(maxima[j % 16], x[j]);
  }
}

void divide(float* x, std::int64_t n, float divisor) {
  for (std::int64_t j = 0; j < n; ++j) {
    x[j] = x[j] / divisor;
  }
}

std::int64_t first_not_finite(const float* x, std::int64_t n) {
  const float* found = std::find_if(x, x + n, [](float value) { return !std::isfinite(value); });
  return found == x + n ? -1 : found - x;
}

std::int64_t at_least(const float* x, std::int64_t n, float threshold, std::int32_t* indices) {
  std::int64_t count = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    if (x[j] >= threshold) {
      indices[count++] = static_cast<std::int32_t>(j);
    }
  }
  return count;
}

}  // namespace

const RowBody& row_body_reference() {
  static constexpr RowBody body{norm_rows<rms_norm_group>,
                                norm_rows<layer_norm_group>,
                                rotate,
                                add,
                                widen,
                                interpolate,
                                elementary,
                                softmax,
                                combine,
                                slice_sum,
                                slice_exp,
                                lane_maxima,
                                divide,
                                first_not_finite,
                                at_least};
  return body;
}

}  // namespace zoetrope
