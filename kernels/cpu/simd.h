// Sixteen fp32 lanes, the same operations in every instruction set, so that a kernel is written once and compiled for
// each.
//
// Which lanes a file gets is decided by the flags it is compiled with. Everything lies in an inline namespace named
// after the instruction set: the linker can never take a function compiled for AVX for a file compiled without. For the
// same reason files under cpu/<isa>/ call as few inline functions from elsewhere as they can, and pass raw pointers.
//
// Every operation is one IEEE operation per lane or an integer one, so all bodies give the same bits under the
// floating-point environment of thread_pool.h. Two things are outside that promise: the payload of a NaN, and denormal
// operands of min and max, which no operation under that environment can produce.
#pragma once

#include <cstdint>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define ZOETROPE_ISA isa_avx512
#include "kernels/cpu/simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#define ZOETROPE_ISA isa_avx2
#include "kernels/cpu/simd_avx2.h"
#else
#define ZOETROPE_ISA isa_portable
#include "kernels/cpu/simd_portable.h"
#endif

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// What each of the three headers above provides:
//   F32x16, U32x16, Mask16
//   load(p), load_first(p, n) (rest 0), store(p, v), store_first(p, v, n), broadcast(x), zero()      0 <= n <= 16
//   load_bf16(p), load_bf16_first(p, n), store_bf16(p, v), store_bf16_first(p, v, n)  (rounded to nearest even)
//   add, sub, mul, div, sqrt, min, max; fma(a, b, c) = a b + c; fnma(a, b, c) = c - a b     min and max: b where
//   unordered less(a, b), greater(a, b), is_nan(a); select(mask, a, b): a where set; first_lanes(n); mask_bits(mask):
//   lane i in bit i bits(F32x16), floats(U32x16), broadcast_bits(x), add, sub, bit_and, bit_or, bit_xor, shift_left<k>,
//   shift_right<k> sum(v), maximum(v): lane i meets lane i + 8, then + 4, + 2, + 1

// Round to bf16, ties to even; a NaN stays a quiet NaN.
[[gnu::always_inline]] inline F32x16 round_bf16(F32x16 v) {
  const U32x16 u = bits(v);
  const U32x16 lowest = bit_and(shift_right<16>(u), broadcast_bits(1));
  const U32x16 rounded = add(add(u, broadcast_bits(0x7fff)), lowest);
  const U32x16 quiet = bit_or(u, broadcast_bits(0x400000));
  return floats(bit_and(bits(select(is_nan(v), floats(quiet), floats(rounded))), broadcast_bits(0xffff0000)));
}

[[gnu::always_inline]] inline bool any(Mask16 mask) { return mask_bits(mask) != 0; }

[[gnu::always_inline]] inline F32x16 absolute(F32x16 v) { return floats(bit_and(bits(v), broadcast_bits(0x7fffffff))); }
[[gnu::always_inline]] inline F32x16 negate(F32x16 v) { return floats(bit_xor(bits(v), broadcast_bits(0x80000000))); }
// The magnitude of a, the sign of b.
[[gnu::always_inline]] inline F32x16 copy_sign(F32x16 a, F32x16 b) {
  return floats(bit_or(bit_and(bits(a), broadcast_bits(0x7fffffff)), bit_and(bits(b), broadcast_bits(0x80000000))));
}

// Written as operators in kernels that read better so.
[[gnu::always_inline]] inline F32x16 operator+(F32x16 a, F32x16 b) { return add(a, b); }
[[gnu::always_inline]] inline F32x16 operator-(F32x16 a, F32x16 b) { return sub(a, b); }
[[gnu::always_inline]] inline F32x16 operator*(F32x16 a, F32x16 b) { return mul(a, b); }
[[gnu::always_inline]] inline F32x16 operator/(F32x16 a, F32x16 b) { return div(a, b); }

}  // namespace ZOETROPE_ISA
}  // namespace zoetrope
