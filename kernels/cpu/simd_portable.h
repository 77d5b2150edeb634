// The lanes of simd.h in plain C++. Included by simd.h only, which says what each operation means.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace zoetrope {
inline namespace isa_portable {

struct F32x16 {
  float lane[16];
};
struct U32x16 {
  std::uint32_t lane[16];
};
struct Mask16 {
  std::uint32_t lane[16];  // all ones or zero
};

namespace lanes {
template <typename Result, typename Function>
[[gnu::always_inline]] inline Result each(Function function) {
  Result r;
  for (int i = 0; i < 16; ++i) {
    r.lane[i] = function(i);
  }
  return r;
}
[[gnu::always_inline]] inline std::uint32_t set_if(bool holds) { return holds ? 0xffffffffU : 0U; }
[[gnu::always_inline]] inline std::uint32_t bits_of(float x) {
  std::uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
[[gnu::always_inline]] inline float float_of(std::uint32_t u) {
  float x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}
// The integer rounding of round_bf16 in simd.h, to the upper 16 bits.
[[gnu::always_inline]] inline std::uint16_t narrow_bf16(std::uint32_t u) {
  const bool nan = (u & 0x7fffffffU) > 0x7f800000U;
  return static_cast<std::uint16_t>((nan ? u | 0x400000U : u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
}
}  // namespace lanes

[[gnu::always_inline]] inline F32x16 load(const float* p) {
  F32x16 r;
  std::memcpy(r.lane, p, sizeof r.lane);
  return r;
}
[[gnu::always_inline]] inline F32x16 load_first(const float* p, int n) {
  return lanes::each<F32x16>([=](int i) { return i < n ? p[i] : 0.0f; });
}
[[gnu::always_inline]] inline void store(float* p, F32x16 v) { std::memcpy(p, v.lane, sizeof v.lane); }
[[gnu::always_inline]] inline void store_first(float* p, F32x16 v, int n) {
  for (int i = 0; i < n; ++i) {
    p[i] = v.lane[i];
  }
}
[[gnu::always_inline]] inline F32x16 broadcast(float x) {
  return lanes::each<F32x16>([=](int) { return x; });
}
[[gnu::always_inline]] inline F32x16 zero() { return broadcast(0.0f); }

[[gnu::always_inline]] inline F32x16 load_bf16_first(const std::uint16_t* p, int n) {
  return lanes::each<F32x16>(
      [=](int i) { return i < n ? lanes::float_of(static_cast<std::uint32_t>(p[i]) << 16) : 0.0f; });
}
[[gnu::always_inline]] inline F32x16 load_bf16(const std::uint16_t* p) { return load_bf16_first(p, 16); }
[[gnu::always_inline]] inline void store_bf16_first(std::uint16_t* p, F32x16 v, int n) {
  for (int i = 0; i < n; ++i) {
    p[i] = lanes::narrow_bf16(lanes::bits_of(v.lane[i]));
  }
}
[[gnu::always_inline]] inline void store_bf16(std::uint16_t* p, F32x16 v) { store_bf16_first(p, v, 16); }

[[gnu::always_inline]] inline F32x16 add(F32x16 a, F32x16 b) {
  return lanes::each<F32x16>([&](int i) { return a.lane[i] + b.lane[i]; });
}
[[gnu::always_inline]] inline F32x16 sub(F32x16 a, F32x16 b) {
  return lanes::each<F32x16>([&](int i) { return a.lane[i] - b.lane[i]; });
}
[[gnu::always_inline]] inline F32x16 mul(F32x16 a, F32x16 b) {
  return lanes::each<F32x16>([&](int i) { return a.lane[i] * b.lane[i]; });
}
[[gnu::always_inline]] inline F32x16 div(F32x16 a, F32x16 b) {
  return lanes::each<F32x16>([&](int i) { return a.lane[i] / b.lane[i]; });
}
[[gnu::always_inline]] inline F32x16 sqrt(F32x16 a) {
  return lanes::each<F32x16>([&](int i) { return std::sqrt(a.lane[i]); });
}
[[gnu::always_inline]] inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return lanes::each<F32x16>([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
[[gnu::always_inline]] inline F32x16 fnma(F32x16 a, F32x16 b, F32x16 c) {
  return lanes::each<F32x16>([&](int i) { return std::fma(-a.lane[i], b.lane[i], c.lane[i]); });
}
[[gnu::always_inline]] inline F32x16 min(F32x16 a, F32x16 b) {
  return lanes::each<F32x16>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
[[gnu::always_inline]] inline F32x16 max(F32x16 a, F32x16 b) {
  return lanes::each<F32x16>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}

[[gnu::always_inline]] inline Mask16 less(F32x16 a, F32x16 b) {
  return lanes::each<Mask16>([&](int i) { return lanes::set_if(a.lane[i] < b.lane[i]); });
}
[[gnu::always_inline]] inline Mask16 greater(F32x16 a, F32x16 b) {
  return lanes::each<Mask16>([&](int i) { return lanes::set_if(a.lane[i] > b.lane[i]); });
}
[[gnu::always_inline]] inline Mask16 is_nan(F32x16 a) {
  return lanes::each<Mask16>([&](int i) { return lanes::set_if(a.lane[i] != a.lane[i]); });
}
[[gnu::always_inline]] inline Mask16 first_lanes(int n) {
  return lanes::each<Mask16>([=](int i) { return lanes::set_if(i < n); });
}
[[gnu::always_inline]] inline std::uint32_t mask_bits(Mask16 mask) {
  std::uint32_t all = 0;
  for (int i = 0; i < 16; ++i) {
    all |= (mask.lane[i] & 1U) << i;
  }
  return all;
}

[[gnu::always_inline]] inline U32x16 bits(F32x16 v) { return std::bit_cast<U32x16>(v); }
[[gnu::always_inline]] inline F32x16 floats(U32x16 v) { return std::bit_cast<F32x16>(v); }
[[gnu::always_inline]] inline F32x16 select(Mask16 mask, F32x16 a, F32x16 b) {
  return lanes::each<F32x16>([&](int i) {
    return lanes::float_of((mask.lane[i] & lanes::bits_of(a.lane[i])) | (~mask.lane[i] & lanes::bits_of(b.lane[i])));
  });
}
[[gnu::always_inline]] inline U32x16 broadcast_bits(std::uint32_t x) {
  return lanes::each<U32x16>([=](int) { return x; });
}
[[gnu::always_inline]] inline U32x16 add(U32x16 a, U32x16 b) {
  return lanes::each<U32x16>([&](int i) { return a.lane[i] + b.lane[i]; });
}
[[gnu::always_inline]] inline U32x16 sub(U32x16 a, U32x16 b) {
  return lanes::each<U32x16>([&](int i) { return a.lane[i] - b.lane[i]; });
}
[[gnu::always_inline]] inline U32x16 bit_and(U32x16 a, U32x16 b) {
  return lanes::each<U32x16>([&](int i) { return a.lane[i] & b.lane[i]; });
}
[[gnu::always_inline]] inline U32x16 bit_or(U32x16 a, U32x16 b) {
  return lanes::each<U32x16>([&](int i) { return a.lane[i] | b.lane[i]; });
}
[[gnu::always_inline]] inline U32x16 bit_xor(U32x16 a, U32x16 b) {
  return lanes::each<U32x16>([&](int i) { return a.lane[i] ^ b.lane[i]; });
}
template <int kBits>
[[gnu::always_inline]] inline U32x16 shift_left(U32x16 v) {
  return lanes::each<U32x16>([&](int i) { return v.lane[i] << kBits; });
}
template <int kBits>
[[gnu::always_inline]] inline U32x16 shift_right(U32x16 v) {
  return lanes::each<U32x16>([&](int i) { return v.lane[i] >> kBits; });
}

[[gnu::always_inline]] inline float sum(F32x16 v) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      v.lane[i] = v.lane[i] + v.lane[i + width];
    }
  }
  return v.lane[0];
}
[[gnu::always_inline]] inline float maximum(F32x16 v) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      v.lane[i] = v.lane[i] > v.lane[i + width] ? v.lane[i] : v.lane[i + width];
    }
  }
  return v.lane[0];
}

}  // namespace isa_portable
}  // namespace zoetrope
