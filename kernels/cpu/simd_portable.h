// The lanes of simd.h in vectors of four, which gcc and clang make for any processor. Included by simd.h only, which
// says what each operation means. Operations that go lane by lane are kept out of line: sixteen library calls inlined
// at every use took minutes to compile.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace zoetrope {
inline namespace isa_portable {

namespace lanes {
using F32x4 = float __attribute__((vector_size(16)));
using U32x4 = std::uint32_t __attribute__((vector_size(16)));

template <typename To, typename From>
[[gnu::always_inline]] inline To reinterpret(From from) {
  To to;
  static_assert(sizeof to == sizeof from);
  std::memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace lanes

struct F32x16 {
  lanes::F32x4 a, b, c, d;  // lanes 0-3, 4-7, 8-11, 12-15
};
struct U32x16 {
  lanes::U32x4 a, b, c, d;
};
struct Mask16 {
  lanes::U32x4 a, b, c, d;  // all ones or zero in each lane
};

namespace lanes {
// One operation on the four quarters of one vector or of two.
template <typename Result, typename X, typename Function>
[[gnu::always_inline]] inline Result quarters(X x, Function f) {
  return {f(x.a), f(x.b), f(x.c), f(x.d)};
}
template <typename Result, typename X, typename Y, typename Function>
[[gnu::always_inline]] inline Result quarters(X x, Y y, Function f) {
  return {f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d)};
}
[[gnu::always_inline]] inline F32x4 select(U32x4 mask, F32x4 x, F32x4 y) {
  return reinterpret<F32x4>((mask & reinterpret<U32x4>(x)) | (~mask & reinterpret<U32x4>(y)));
}
[[gnu::always_inline]] inline U32x4 less(F32x4 x, F32x4 y) { return reinterpret<U32x4>(x < y); }
}  // namespace lanes

[[gnu::always_inline]] inline F32x16 load(const float* p) {
  F32x16 r;
  std::memcpy(&r, p, sizeof r);
  return r;
}
[[gnu::always_inline]] inline void store(float* p, F32x16 v) { std::memcpy(p, &v, sizeof v); }
[[gnu::always_inline]] inline F32x16 load_first(const float* p, int n) {
  float padded[16] = {};
  std::memcpy(padded, p, static_cast<std::size_t>(n) * sizeof *p);
  return load(padded);
}
[[gnu::always_inline]] inline void store_first(float* p, F32x16 v, int n) {
  std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof *p);
}
[[gnu::always_inline]] inline F32x16 broadcast(float x) {
  const lanes::F32x4 four = {x, x, x, x};
  return {four, four, four, four};
}
[[gnu::always_inline]] inline F32x16 zero() { return broadcast(0.0f); }

[[gnu::always_inline]] inline U32x16 bits(F32x16 v) {
  return lanes::quarters<U32x16>(v, [](auto x) { return lanes::reinterpret<lanes::U32x4>(x); });
}
[[gnu::always_inline]] inline F32x16 floats(U32x16 v) {
  return lanes::quarters<F32x16>(v, [](auto x) { return lanes::reinterpret<lanes::F32x4>(x); });
}
[[gnu::always_inline]] inline U32x16 broadcast_bits(std::uint32_t x) {
  const lanes::U32x4 four = {x, x, x, x};
  return {four, four, four, four};
}
[[gnu::always_inline]] inline U32x16 add(U32x16 x, U32x16 y) {
  return lanes::quarters<U32x16>(x, y, [](auto p, auto q) { return p + q; });
}
[[gnu::always_inline]] inline U32x16 sub(U32x16 x, U32x16 y) {
  return lanes::quarters<U32x16>(x, y, [](auto p, auto q) { return p - q; });
}
[[gnu::always_inline]] inline U32x16 bit_and(U32x16 x, U32x16 y) {
  return lanes::quarters<U32x16>(x, y, [](auto p, auto q) { return p & q; });
}
[[gnu::always_inline]] inline U32x16 bit_or(U32x16 x, U32x16 y) {
  return lanes::quarters<U32x16>(x, y, [](auto p, auto q) { return p | q; });
}
[[gnu::always_inline]] inline U32x16 bit_xor(U32x16 x, U32x16 y) {
  return lanes::quarters<U32x16>(x, y, [](auto p, auto q) { return p ^ q; });
}
template <int kBits>
[[gnu::always_inline]] inline U32x16 shift_left(U32x16 v) {
  return lanes::quarters<U32x16>(v, [](auto x) { return x << kBits; });
}
template <int kBits>
[[gnu::always_inline]] inline U32x16 shift_right(U32x16 v) {
  return lanes::quarters<U32x16>(v, [](auto x) { return x >> kBits; });
}

[[gnu::always_inline]] inline F32x16 add(F32x16 x, F32x16 y) {
  return lanes::quarters<F32x16>(x, y, [](auto p, auto q) { return p + q; });
}
[[gnu::always_inline]] inline F32x16 sub(F32x16 x, F32x16 y) {
  return lanes::quarters<F32x16>(x, y, [](auto p, auto q) { return p - q; });
}
[[gnu::always_inline]] inline F32x16 mul(F32x16 x, F32x16 y) {
  return lanes::quarters<F32x16>(x, y, [](auto p, auto q) { return p * q; });
}
[[gnu::always_inline]] inline F32x16 div(F32x16 x, F32x16 y) {
  return lanes::quarters<F32x16>(x, y, [](auto p, auto q) { return p / q; });
}
[[gnu::always_inline]] inline F32x16 min(F32x16 x, F32x16 y) {
  return lanes::quarters<F32x16>(x, y, [](auto p, auto q) { return lanes::select(lanes::less(p, q), p, q); });
}
[[gnu::always_inline]] inline F32x16 max(F32x16 x, F32x16 y) {
  return lanes::quarters<F32x16>(x, y, [](auto p, auto q) { return lanes::select(lanes::less(q, p), p, q); });
}
[[gnu::noinline]] inline F32x16 sqrt(F32x16 x) {
  float lane[16];
  store(lane, x);
  for (float& value : lane) {
    value = std::sqrt(value);
  }
  return load(lane);
}
[[gnu::noinline]] inline F32x16 fma(F32x16 x, F32x16 y, F32x16 z) {
  float p[16], q[16], r[16];
  store(p, x);
  store(q, y);
  store(r, z);
  for (int i = 0; i < 16; ++i) {
    r[i] = std::fma(p[i], q[i], r[i]);
  }
  return load(r);
}
[[gnu::always_inline]] inline F32x16 fnma(F32x16 x, F32x16 y, F32x16 z) {
  return fma(lanes::quarters<F32x16>(x, [](auto p) { return -p; }), y, z);
}

[[gnu::always_inline]] inline Mask16 less(F32x16 x, F32x16 y) {
  return lanes::quarters<Mask16>(x, y, [](auto p, auto q) { return lanes::less(p, q); });
}
[[gnu::always_inline]] inline Mask16 greater(F32x16 x, F32x16 y) { return less(y, x); }
[[gnu::always_inline]] inline Mask16 is_nan(F32x16 x) {
  return lanes::quarters<Mask16>(x, [](auto p) { return lanes::reinterpret<lanes::U32x4>(p != p); });
}
[[gnu::always_inline]] inline Mask16 first_lanes(int n) {
  const lanes::F32x4 limit = broadcast(static_cast<float>(n)).a;
  return {lanes::less(lanes::F32x4{0, 1, 2, 3}, limit), lanes::less(lanes::F32x4{4, 5, 6, 7}, limit),
          lanes::less(lanes::F32x4{8, 9, 10, 11}, limit), lanes::less(lanes::F32x4{12, 13, 14, 15}, limit)};
}
[[gnu::always_inline]] inline std::uint32_t mask_bits(Mask16 mask) {
  std::uint32_t lane[16];
  std::memcpy(lane, &mask, sizeof lane);
  std::uint32_t all = 0;
  for (int i = 0; i < 16; ++i) {
    all |= (lane[i] & 1U) << i;
  }
  return all;
}
[[gnu::always_inline]] inline F32x16 select(Mask16 mask, F32x16 x, F32x16 y) {
  return {lanes::select(mask.a, x.a, y.a), lanes::select(mask.b, x.b, y.b), lanes::select(mask.c, x.c, y.c),
          lanes::select(mask.d, x.d, y.d)};
}

[[gnu::noinline]] inline F32x16 load_bf16_first(const std::uint16_t* p, int n) {
  std::uint32_t wide[16] = {};
  for (int i = 0; i < n; ++i) {
    wide[i] = static_cast<std::uint32_t>(p[i]) << 16;
  }
  F32x16 r;
  std::memcpy(&r, wide, sizeof r);
  return r;
}
[[gnu::always_inline]] inline F32x16 load_bf16(const std::uint16_t* p) { return load_bf16_first(p, 16); }
// The integer rounding of round_bf16 in simd.h, to the upper 16 bits.
[[gnu::noinline]] inline void store_bf16_first(std::uint16_t* p, F32x16 v, int n) {
  std::uint32_t lane[16];
  std::memcpy(lane, &v, sizeof lane);
  for (int i = 0; i < n; ++i) {
    const std::uint32_t u = lane[i];
    const bool nan = (u & 0x7fffffffU) > 0x7f800000U;
    p[i] = static_cast<std::uint16_t>((nan ? u | 0x400000U : u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
  }
}
[[gnu::always_inline]] inline void store_bf16(std::uint16_t* p, F32x16 v) { store_bf16_first(p, v, 16); }

[[gnu::always_inline]] inline float sum(F32x16 v) {
  const lanes::F32x4 low = v.a + v.c;   // lanes 0-3 of eight
  const lanes::F32x4 high = v.b + v.d;  // lanes 4-7
  const lanes::F32x4 four = low + high;
  return (four[0] + four[2]) + (four[1] + four[3]);
}
[[gnu::always_inline]] inline float maximum(F32x16 v) {
  const auto larger = [](auto p, auto q) { return lanes::select(lanes::less(q, p), p, q); };
  const lanes::F32x4 four = larger(larger(v.a, v.c), larger(v.b, v.d));
  const float even = four[0] > four[2] ? four[0] : four[2];
  const float odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

}  // namespace isa_portable
}  // namespace zoetrope
