// Views on memory that somebody else owns, and the two number formats of the house.
// Activations are fp32 rows in every precision mode. In bf16 mode numbers are rounded where a bf16 multiplier reads
// them (packed rows of a product, queries, keys, values, probabilities) and where they travel; what ops write stays
// fp32.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "monitoring/check.h"

namespace zoetrope {

// How numbers are computed. kFp32: weights as stored, arithmetic and KV in fp32. kBf16 (default): products
// multiply bf16 numbers and add in fp32, KV in bf16; the residual stream, norms, activations and the router are fp32.
enum class Precision { kFp32, kBf16 };

using Bf16 = std::uint16_t;  // the upper half of a float

inline float from_bf16(Bf16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16); }

// Round to nearest, ties to even; a NaN stays a (quiet) NaN.
inline Bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {
    return static_cast<Bf16>((bits >> 16) | 0x40U);
  }
  return static_cast<Bf16>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

inline float round_bf16(float value) { return from_bf16(to_bf16(value)); }

// Row-major matrix view: element (r, c) is data[r * stride + c].
template <typename T>
struct Rows {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;  // elements from one row to the next, >= columns

  Rows() = default;
  Rows(T* data_, std::int64_t rows_, std::int64_t columns_) : Rows(data_, rows_, columns_, columns_) {}
  Rows(T* data_, std::int64_t rows_, std::int64_t columns_, std::int64_t stride_)
      : data(data_), rows(rows_), columns(columns_), stride(stride_) {}
  // A view on mutable rows is a view on constant rows.
  template <typename U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
  Rows(const Rows<U>& other) : Rows(other.data, other.rows, other.columns, other.stride) {}

  T* row(std::int64_t index) const { return data + index * stride; }
  Rows slice(std::int64_t first, std::int64_t count) const { return {row(first), count, columns, stride}; }
};

}  // namespace zoetrope
