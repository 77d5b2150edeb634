// Random matrices as a checkpoint stores them, and the product written from its definition alone: no packing, no tiles.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "kernels/body.h"
#include "kernels/matmul.h"

namespace zoetrope::test {

// The order of additions, and the mistakes that tests must notice.
enum class Order { kRight, kEvenFirst, kDescending, kSwappedTree, kOneSum };

inline float e4m3_value(std::uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  if ((code & 0x7f) == 0x7f) {
    return std::nanf("");
  }
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return static_cast<float>(code & 0x80 ? -magnitude : magnitude);
}

struct Numbers {
  explicit Numbers(std::uint64_t seed) : random(seed) {}
  std::mt19937_64 random;

  float normal() { return std::normal_distribution<float>(0.0f, 1.0f)(random); }
  // Mostly ordinary values; with `wild`, also zeros of both signs, denormals and numbers whose products leave the range
  // of normal fp32 numbers at its lower end.
  float value(bool wild) {
    const auto draw = random() % 16;
    if (wild && draw == 0) {
      return std::ldexp(normal(), -70);
    }
    if (wild && draw == 1) {
      return std::ldexp(normal(), -130);
    }
    if (wild && draw == 2) {
      return random() % 2 != 0 ? 0.0f : -0.0f;
    }
    return normal();
  }
  std::vector<float> rows(std::int64_t count, bool wild, bool rounded) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& v : values) {
      v = rounded ? round_bf16(value(wild)) : value(wild);
    }
    return values;
  }
};

// A weight matrix [n, k] in either storage order.
struct Stored {
  WeightType type = WeightType::kBf16;
  std::int64_t n = 0, k = 0;
  bool input_major = false;
  std::int64_t output_origin = 0, input_origin = 0;
  std::vector<Bf16> bf16;
  std::vector<std::uint8_t> fp8;
  std::vector<float> scales;  // [output block][input block] of the whole matrix
  std::int64_t scale_columns = 0;

  Stored(Numbers& numbers, WeightType type_, std::int64_t n_, std::int64_t k_, bool input_major_, bool wild = false,
         std::int64_t output_origin_ = 0, std::int64_t input_origin_ = 0)
      : type(type_),
        n(n_),
        k(k_),
        input_major(input_major_),
        output_origin(output_origin_),
        input_origin(input_origin_) {
    const auto count = static_cast<std::size_t>(n * k);
    if (type == WeightType::kBf16) {
      for (std::size_t i = 0; i < count; ++i) {
        bf16.push_back(to_bf16(numbers.value(wild)));
      }
      return;
    }
    for (std::size_t i = 0; i < count; ++i) {
      const auto code = static_cast<std::uint8_t>(numbers.random());
      fp8.push_back((code & 0x7f) == 0x7f ? 0 : code);
    }
    scale_columns = (input_origin + k - 1) / 128 + 1;
    for (std::int64_t i = 0; i < ((output_origin + n - 1) / 128 + 1) * scale_columns; ++i) {
      scales.push_back(0.001f * (1.0f + std::fabs(numbers.normal())));
    }
  }

  std::int64_t index(std::int64_t output, std::int64_t input) const {
    return input_major ? input * n + output : output * k + input;
  }
  float scale(std::int64_t output, std::int64_t input) const {
    return scales[static_cast<std::size_t>((output_origin + output) / 128 * scale_columns +
                                           (input_origin + input) / 128)];
  }
  float unscaled(std::int64_t output, std::int64_t input) const {
    const auto at = static_cast<std::size_t>(index(output, input));
    return type == WeightType::kBf16 ? from_bf16(bf16[at]) : e4m3_value(fp8[at]);
  }
  StoredMatrix view() const {
    StoredMatrix m;
    m.type = type;
    m.data = type == WeightType::kBf16 ? reinterpret_cast<const std::byte*>(bf16.data())
                                       : reinterpret_cast<const std::byte*>(fp8.data());
    m.output_stride = input_major ? 1 : k;
    m.input_stride = input_major ? n : 1;
    if (type == WeightType::kF8E4M3) {
      m.scales = scales.data();
      m.scale_output_stride = scale_columns;
      m.scale_input_stride = 1;
      m.output_origin = output_origin;
      m.input_origin = input_origin;
    }
    return m;
  }
};

// A packed matrix with memory of its own, guarded by neighbours that must stay as they were.
class Packed {
 public:
  Packed(const Stored& stored, PanelOrder order, int slices)
      : bytes_(packed_bytes(stored.type, order, stored.n, stored.k, slices)),
        memory_(static_cast<std::byte*>(std::aligned_alloc(64, (bytes_ + 63) / 64 * 64 + 64)), std::free),
        data_(memory_.get()),
        scales_(packed_scales(stored.type, stored.n, stored.k, slices)) {
    data_[bytes_] = std::byte{0x5a};
    matrix = pack(stored.view(), order, stored.n, stored.k, slices, order == PanelOrder::kGated ? stored.n / 2 : 0,
                  data_, scales_.empty() ? nullptr : scales_.data());
  }
  bool guarded() const { return data_[bytes_] == std::byte{0x5a}; }

  PackedMatrix matrix;

 private:
  std::size_t bytes_;
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
  std::byte* data_;
  std::vector<float> scales_;
};

// One slice [first, first + inputs) of one element from the definition: docs/one-answer.md rules 1 and 7.
inline float slice_product(const float* x, const Stored& w, std::int64_t output, std::int64_t first,
                           std::int64_t inputs, Precision precision, Order order) {
  const bool fp8 = w.type == WeightType::kF8E4M3;
  float sum = 0.0f;
  const auto visited = [&](std::int64_t k) { return order == Order::kDescending ? inputs - 1 - k : k; };
  if (precision == Precision::kFp32) {
    for (std::int64_t i = 0; i < inputs; ++i) {
      const std::int64_t k = first + visited(i);
      const float weight = fp8 ? w.unscaled(output, k) * w.scale(output, k) : w.unscaled(output, k);
      sum = std::fma(x[k], weight, sum);
    }
    return inputs % 2 != 0 ? std::fma(0.0f, 0.0f, sum) : sum;  // an odd slice is padded with a zero
  }
  float block = 0.0f;
  for (std::int64_t i = 0; i < inputs; i += 2) {
    const std::int64_t even = order == Order::kDescending ? (inputs - 1) / 2 * 2 - i : i;
    const auto term = [&](std::int64_t k) {
      const bool exists = k < inputs;
      block = std::fma(exists ? round_bf16(x[first + k]) : 0.0f, exists ? w.unscaled(output, first + k) : 0.0f, block);
    };
    term(order == Order::kEvenFirst ? even : even + 1);
    term(order == Order::kEvenFirst ? even + 1 : even);
    if (fp8 && (i + 2 >= inputs || (w.input_origin + first + even + 2) % 128 == 0)) {
      sum = std::fma(block, w.scale(output, first + even), sum);
      block = 0.0f;
    }
  }
  return fp8 ? sum : block;
}

inline float product(const float* x, const Stored& w, std::int64_t output, int slices, Precision precision,
                     Order order = Order::kRight) {
  if (order == Order::kOneSum) {
    return slice_product(x, w, output, 0, w.k, precision, Order::kRight);
  }
  const std::int64_t inputs = w.k / slices;
  std::vector<float> partials;
  for (int s = 0; s < slices; ++s) {
    partials.push_back(slice_product(x, w, output, s * inputs, inputs, precision, order));
  }
  if (order == Order::kSwappedTree) {  // one after the other instead of in pairs
    for (std::size_t s = 1; s < partials.size(); ++s) {
      partials[0] += partials[s];
    }
    return partials[0];
  }
  for (std::size_t distance = 1; distance < partials.size(); distance *= 2) {
    for (std::size_t s = 0; s < partials.size(); s += 2 * distance) {
      partials[s] += partials[s + distance];
    }
  }
  return partials[0];
}

}  // namespace zoetrope::test
