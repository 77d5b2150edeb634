// exp2, exp, tanh, erf and the activations made of them: one polynomial each, the same operations in the same order in
// every body (docs/one-answer.md rule 0). Coefficients are minimax fits, rounded to fp32; the errors stated were
// measured against long double by tests/kernels/simd_test.cc, which fails when they grow.
#pragma once

#include "kernels/cpu/simd.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

namespace math {

// Adding 1.5 * 2^23 leaves the integer nearest to x (ties to even) in the low bits of the sum; |x| < 2^22.
inline constexpr float kIntegerShift = 12582912.0f;

// p * 2^n for n in the low bits of `shifted`: added to the exponent. p 2^n must be a normal number, or 2^128
// (infinity).
[[gnu::always_inline]] inline F32x16 scale_by_power(F32x16 p, F32x16 shifted) {
  return floats(add(bits(p), shift_left<23>(bits(shifted))));
}

// scale_by_power; 0 where x < least, NaN where x is NaN, and p with it.
[[gnu::always_inline]] inline F32x16 scale_or_zero(F32x16 p, F32x16 shifted, F32x16 x, float least) {
#if defined(__AVX512F__)
  const F32x16 n = sub(shifted, broadcast(kIntegerShift));
  return {_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x.all, _mm512_set1_ps(least), _CMP_NLT_UQ), p.all, n.all)};
#else
  return select(is_nan(x), x, select(less(x, broadcast(least)), zero(), scale_by_power(p, shifted)));
#endif
}

}  // namespace math

// 2^x. 2^0 = 1 exactly; x < -126 gives 0 exactly (the smallest result is the smallest normal number); x >= 128 gives
// infinity; NaN stays NaN. x = n + f, |f| <= 1/2, 2^f by degree 6. Error <= 1.1 ulp.
[[gnu::always_inline]] inline F32x16 exp2(F32x16 x) {
  const F32x16 limited = min(broadcast(128.0f), x);  // x where x is NaN
  const F32x16 shifted = add(limited, broadcast(math::kIntegerShift));
  const F32x16 f = sub(limited, sub(shifted, broadcast(math::kIntegerShift)));
  F32x16 p = broadcast(0x1.470b44p-13f);
  p = fma(p, f, broadcast(0x1.5f7276p-10f));
  p = fma(p, f, broadcast(0x1.3b270ep-7f));
  p = fma(p, f, broadcast(0x1.c6ae72p-5f));
  p = fma(p, f, broadcast(0x1.ebfbe2p-3f));
  p = fma(p, f, broadcast(0x1.62e432p-1f));
  p = fma(p, f, broadcast(1.0f));
  return math::scale_or_zero(p, shifted, x, -126.0f);
}

// e^x. e^0 = 1 exactly; results below the smallest normal number are 0 exactly; x > 88.72283 gives infinity; NaN stays.
// x = n ln 2 + r with ln 2 in two parts, e^r by degree 6. Error <= 1.2 ulp.
[[gnu::always_inline]] inline F32x16 exp(F32x16 x) {
  const F32x16 shifted = fma(x, broadcast(0x1.715476p+0f), broadcast(math::kIntegerShift));
  const F32x16 n = sub(shifted, broadcast(math::kIntegerShift));
  F32x16 r = fnma(n, broadcast(0x1.62e4p-1f), x);  // 15 bits: n times it is exact
  r = fnma(n, broadcast(0x1.7f7d1cp-20f), r);
  F32x16 p = broadcast(0x1.709b5cp-10f);
  p = fma(p, r, broadcast(0x1.12903cp-7f));
  p = fma(p, r, broadcast(0x1.55515ep-5f));
  p = fma(p, r, broadcast(0x1.5553c0p-3f));
  p = fma(p, r, broadcast(0x1.000002p-1f));
  p = fma(p, r, broadcast(0x1.000002p+0f));
  p = fma(p, r, broadcast(1.0f));
  const F32x16 y = math::scale_or_zero(p, shifted, x, -87.33654f);
  return select(greater(x, broadcast(88.72283f)), broadcast(__builtin_inff()), y);
}

// |x| < 0.625: x + x^3 P(x^2), P of degree 4. Else 1 - 2 / (e^2|x| + 1) with the sign of x. Error <= 1e-7.
[[gnu::always_inline]] inline F32x16 tanh(F32x16 x) {
  const F32x16 s = mul(x, x);
  F32x16 p = broadcast(-0x1.76ac20p-8f);
  p = fma(p, s, broadcast(0x1.5256d8p-6f));
  p = fma(p, s, broadcast(-0x1.b8444ap-5f));
  p = fma(p, s, broadcast(0x1.110768p-3f));
  p = fma(p, s, broadcast(-0x1.555534p-2f));
  const F32x16 small = fma(mul(x, s), p, x);
  const F32x16 a = absolute(x);
  const F32x16 e = exp(add(a, a));
  const F32x16 large = sub(broadcast(1.0f), div(broadcast(2.0f), add(e, broadcast(1.0f))));
  return select(less(a, broadcast(0.625f)), small, copy_sign(large, x));
}

// |x| < 1: x + x P(x^2), P of degree 6. Else 1 - 2^Q(|x|) with the sign of x, Q of degree 7 fitted to log2(1 - erf) on
// [1, 4]; |x| >= 4 is 1. Error <= 1e-7.
[[gnu::always_inline]] inline F32x16 erf(F32x16 x) {
  const F32x16 s = mul(x, x);
  F32x16 p = broadcast(0x1.496a42p-14f);
  p = fma(p, s, broadcast(-0x1.a3f706p-11f));
  p = fma(p, s, broadcast(0x1.5405b2p-8f));
  p = fma(p, s, broadcast(-0x1.b7f90ep-6f));
  p = fma(p, s, broadcast(0x1.ce2cf8p-4f));
  p = fma(p, s, broadcast(-0x1.81273ep-2f));
  p = fma(p, s, broadcast(0x1.06eba8p-3f));
  const F32x16 small = fma(x, p, x);
  const F32x16 a = min(broadcast(4.0f), absolute(x));  // NaN where x is NaN
  F32x16 q = broadcast(-0x1.06751ap-15f);
  q = fma(q, a, broadcast(0x1.4dd208p-11f));
  q = fma(q, a, broadcast(-0x1.8d88c4p-8f));
  q = fma(q, a, broadcast(0x1.29eccep-5f));
  q = fma(q, a, broadcast(-0x1.405674p-3f));
  q = fma(q, a, broadcast(-0x1.d3bbf0p-1f));
  q = fma(q, a, broadcast(-0x1.a12fe6p+0f));
  q = fma(q, a, broadcast(0x1.1c74f6p-12f));
  const F32x16 large = sub(broadcast(1.0f), exp2(q));
  return select(less(a, broadcast(1.0f)), small, copy_sign(large, x));
}

// x / (1 + e^-x)
[[gnu::always_inline]] inline F32x16 silu(F32x16 x) { return div(x, add(broadcast(1.0f), exp(negate(x)))); }

// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
[[gnu::always_inline]] inline F32x16 gelu_tanh(F32x16 x) {
  const F32x16 cube = mul(mul(x, x), x);
  const F32x16 inner = mul(broadcast(0x1.988454p-1f), fma(broadcast(0.044715f), cube, x));
  return mul(mul(broadcast(0.5f), x), add(broadcast(1.0f), tanh(inner)));
}

// x/2 (1 + erf(x / sqrt 2))
[[gnu::always_inline]] inline F32x16 gelu_erf(F32x16 x) {
  return mul(mul(broadcast(0.5f), x), add(broadcast(1.0f), erf(mul(x, broadcast(0x1.6a09e6p-1f)))));
}

}  // namespace ZOETROPE_ISA
}  // namespace zoetrope
