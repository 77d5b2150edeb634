// Rule 4 of docs/one-answer.md once more, from unpacked K and V and without any code of kernels/attention: what the
// attention tests compare every body with, bit for bit. Its orders can be swapped, to show that the comparison would
// tell.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/body.h"
#include "kernels/reference/elementary.h"

namespace zoetrope::attention_case {

// Numbers that look normal, from a counter: no two tests share a state.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15U + 1) {}
  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  float normal() {
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
      sum += static_cast<double>(bits() >> 11) * 0x1p-53 - 0.5;
    }
    return static_cast<float>(sum * std::numbers::sqrt3);
  }

 private:
  std::uint64_t state_;
};

struct Matrix {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<float> numbers;

  Matrix() = default;
  Matrix(std::int64_t rows_, std::int64_t columns_)
      : rows(rows_), columns(columns_), numbers(static_cast<std::size_t>(rows_ * columns_)) {}
  static Matrix random(std::int64_t rows, std::int64_t columns, Precision precision, std::uint64_t seed,
                       float size = 1.0F) {
    Matrix matrix(rows, columns);
    Numbers source(seed);
    for (float& x : matrix.numbers) {
      x = source.normal() * size;
      x = precision == Precision::kBf16 ? round_bf16(x) : x;
    }
    return matrix;
  }
  float* row(std::int64_t r) { return numbers.data() + r * columns; }
  const float* row(std::int64_t r) const { return numbers.data() + r * columns; }
  Rows<float> view() { return {numbers.data(), rows, columns}; }
  Rows<const float> view() const { return {numbers.data(), rows, columns}; }
};

struct Partial {
  float m = kNoPartial;
  float l = 0;
  std::vector<float> o;
  bool empty = true;
};

// One head's K and V, token by token, and the query that looks at them.
struct HeadView {
  const float* query = nullptr;
  const float* keys = nullptr;  // token t at keys + t * stride
  const float* values = nullptr;
  std::int64_t stride = 0;
  int head_dim = 0;
  bool bf16 = false;
};

inline float product(const std::vector<float>& a, const std::vector<float>& b, bool bf16, float sum) {
  for (std::size_t i = 0; i < a.size(); i += bf16 ? 2 : 1) {
    if (bf16 && i + 1 < a.size()) {
      sum = std::fma(a[i + 1], b[i + 1], sum);
    }
    sum = std::fma(a[i], b[i], sum);
  }
  return sum;
}

// Lets the partial see tokens first .. last - 1, all of one page.
inline void see(const HeadView& view, std::int64_t first, std::int64_t last, Partial& partial) {
  const auto d = static_cast<std::size_t>(view.head_dim);
  const float scale = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(view.head_dim)));
  const std::vector<float> query(view.query, view.query + d);
  const auto n = static_cast<std::size_t>(last - first);
  std::vector<float> s(n);
  float m = partial.m;
  for (std::size_t j = 0; j < n; ++j) {
    const float* key = view.keys + (first + static_cast<std::int64_t>(j)) * view.stride;
    s[j] = product(query, std::vector<float>(key, key + d), view.bf16, 0.0F) * scale;
    m = std::max(m, s[j]);
  }
  m += 0.0F;
  const float factor = reference::exp2(partial.m - m);
  float lanes[16] = {};
  for (std::size_t j = 0; j < n; ++j) {
    s[j] = reference::exp2(s[j] - m);
    lanes[j % 16] += s[j];
    s[j] = view.bf16 ? round_bf16(s[j]) : s[j];
  }
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      lanes[i] += lanes[i + width];
    }
  }
  partial.o.resize(d);
  std::vector<float> column(n);
  for (std::size_t i = 0; i < d; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      column[j] = view.values[(first + static_cast<std::int64_t>(j)) * view.stride + static_cast<std::int64_t>(i)];
    }
    partial.o[i] = product(s, column, view.bf16, partial.o[i] * factor);
  }
  partial.l = std::fma(partial.l, factor, lanes[0]);
  partial.m = m;
  partial.empty = false;
}

inline void merge(Partial& a, const Partial& b) {
  if (b.empty) {
    return;
  }
  if (a.empty) {
    a = b;
    return;
  }
  const float m = std::max(a.m, b.m);
  const float e_a = reference::exp2(a.m - m);
  const float e_b = reference::exp2(b.m - m);
  for (std::size_t i = 0; i < a.o.size(); ++i) {
    a.o[i] = std::fma(b.o[i], e_b, a.o[i] * e_a);
  }
  a.l = std::fma(b.l, e_b, a.l * e_a);
  a.m = m;
}

inline std::vector<float> finish(const Partial& partial) {
  std::vector<float> out;
  for (const float o : partial.o) {
    out.push_back(o / partial.l);
  }
  return out;
}

enum class Order { kRule, kSwappedTree, kSwappedPages };

// What one query head at `position` answers.
inline std::vector<float> attend(const HeadView& view, std::int64_t position, Order order = Order::kRule) {
  std::vector<Partial> classes(kPageClasses);
  std::vector<std::int64_t> pages(static_cast<std::size_t>(position / kPageTokens + 1));
  std::iota(pages.begin(), pages.end(), 0);
  if (order == Order::kSwappedPages) {
    std::reverse(pages.begin(), pages.end());
  }
  for (const std::int64_t page : pages) {
    see(view, page * kPageTokens, std::min(position + 1, (page + 1) * kPageTokens),
        classes[static_cast<std::size_t>(page % kPageClasses)]);
  }
  if (order == Order::kSwappedTree) {  // neighbours first
    for (std::size_t stride = 1; stride < kPageClasses; stride *= 2) {
      for (std::size_t c = 0; c < kPageClasses; c += 2 * stride) {
        merge(classes[c], classes[c + stride]);
      }
    }
  } else {
    for (std::size_t stride = kPageClasses / 2; stride > 0; stride /= 2) {
      for (std::size_t c = 0; c < stride; ++c) {
        merge(classes[c], classes[c + stride]);
      }
    }
  }
  return finish(classes[0]);
}

// Softmax in double precision and how far an answer may lie from it. Per element: the scores' rounding (head_dim + 2
// steps of 2^-24 on sum |q k|) moves a weight by that factor, above and below the line; n weights and sums add (n + 8)
// steps each; in bf16 mode a weight is rounded (2^-9) above the line only, and so is the answer.
struct Exact {
  std::vector<double> out;
  std::vector<double> tolerance;
};
inline Exact exact_attend(const HeadView& view, std::int64_t first, std::int64_t last) {
  const double scale = 1 / std::sqrt(static_cast<double>(view.head_dim));
  const auto n = static_cast<std::size_t>(last - first);
  std::vector<double> s(n);
  double highest = -std::numeric_limits<double>::infinity();
  double spread = 0;  // the largest error of a score
  for (std::size_t j = 0; j < n; ++j) {
    double dot = 0;
    double size = 0;
    for (int d = 0; d < view.head_dim; ++d) {
      const double term = static_cast<double>(view.query[d]) *
                          static_cast<double>(view.keys[(first + static_cast<std::int64_t>(j)) * view.stride + d]);
      dot += term;
      size += std::abs(term);
    }
    s[j] = dot * scale;
    highest = std::max(highest, s[j]);
    spread = std::max(spread, (view.head_dim + 4) * 0x1p-24 * size * scale);
  }
  double l = 0;
  for (double& x : s) {
    x = std::exp(x - highest);
    l += x;
  }
  Exact exact;
  const double step = 2 * spread + 2 * (static_cast<double>(n) + 8) * 0x1p-24 + (view.bf16 ? 0x1p-9 : 0);
  for (int d = 0; d < view.head_dim; ++d) {
    double o = 0;
    double size = 0;
    for (std::size_t j = 0; j < n; ++j) {
      const double term =
          s[j] / l * static_cast<double>(view.values[(first + static_cast<std::int64_t>(j)) * view.stride + d]);
      o += term;
      size += std::abs(term);
    }
    exact.out.push_back(o);
    exact.tolerance.push_back(step * size + (view.bf16 ? 0x1p-9 * std::abs(o) : 0) + 1e-37);
  }
  return exact;
}

inline std::string mode_name(Precision precision) { return precision == Precision::kBf16 ? "bf16" : "fp32"; }

}  // namespace zoetrope::attention_case
