// The lanes of simd.h as one AVX-512 register. Included by simd.h only, which says what each operation means.
#pragma once

// gcc 12 takes its own "undefined" register, which the masks of these intrinsics never let through, for a mistake of
// the file that uses them. Off for the rest of the file: the warning is raised where the functions are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include <cstdint>

namespace zoetrope {
inline namespace isa_avx512 {

struct F32x16 {
  __m512 all;
};
struct U32x16 {
  __m512i all;
};
struct Mask16 {
  __mmask16 all;
};

namespace lanes {
[[gnu::always_inline]] inline __mmask16 first(int n) { return static_cast<__mmask16>((1U << n) - 1U); }
// Sixteen floats to bf16: round_bf16 of simd.h. Not VCVTNEPS2BF16, which flushes denormals.
[[gnu::always_inline]] inline __m256i narrow(__m512 v) {
  const __m512i u = _mm512_castps_si512(v);
  const __m512i lowest = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), lowest);
  const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16));
}
[[gnu::always_inline]] inline __m512 widen(__m256i sixteen) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(sixteen), 16));
}
}  // namespace lanes

[[gnu::always_inline]] inline F32x16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
[[gnu::always_inline]] inline F32x16 load_first(const float* p, int n) {
  return {_mm512_maskz_loadu_ps(lanes::first(n), p)};
}
[[gnu::always_inline]] inline void store(float* p, F32x16 v) { _mm512_storeu_ps(p, v.all); }
[[gnu::always_inline]] inline void store_first(float* p, F32x16 v, int n) {
  _mm512_mask_storeu_ps(p, lanes::first(n), v.all);
}
[[gnu::always_inline]] inline F32x16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
[[gnu::always_inline]] inline F32x16 zero() { return {_mm512_setzero_ps()}; }

[[gnu::always_inline]] inline F32x16 load_bf16(const std::uint16_t* p) {
  return {lanes::widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
[[gnu::always_inline]] inline F32x16 load_bf16_first(const std::uint16_t* p, int n) {
  return {lanes::widen(_mm256_maskz_loadu_epi16(lanes::first(n), p))};
}
[[gnu::always_inline]] inline void store_bf16(std::uint16_t* p, F32x16 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), lanes::narrow(v.all));
}
[[gnu::always_inline]] inline void store_bf16_first(std::uint16_t* p, F32x16 v, int n) {
  _mm256_mask_storeu_epi16(p, lanes::first(n), lanes::narrow(v.all));
}

[[gnu::always_inline]] inline F32x16 add(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.all, b.all)}; }
[[gnu::always_inline]] inline F32x16 sub(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.all, b.all)}; }
[[gnu::always_inline]] inline F32x16 mul(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.all, b.all)}; }
[[gnu::always_inline]] inline F32x16 div(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.all, b.all)}; }
[[gnu::always_inline]] inline F32x16 sqrt(F32x16 a) { return {_mm512_sqrt_ps(a.all)}; }
[[gnu::always_inline]] inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm512_fmadd_ps(a.all, b.all, c.all)};
}
[[gnu::always_inline]] inline F32x16 fnma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm512_fnmadd_ps(a.all, b.all, c.all)};
}
[[gnu::always_inline]] inline F32x16 min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.all, b.all)}; }
[[gnu::always_inline]] inline F32x16 max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.all, b.all)}; }

[[gnu::always_inline]] inline Mask16 less(F32x16 a, F32x16 b) { return {_mm512_cmp_ps_mask(a.all, b.all, _CMP_LT_OQ)}; }
[[gnu::always_inline]] inline Mask16 greater(F32x16 a, F32x16 b) {
  return {_mm512_cmp_ps_mask(a.all, b.all, _CMP_GT_OQ)};
}
[[gnu::always_inline]] inline Mask16 is_nan(F32x16 a) { return {_mm512_cmp_ps_mask(a.all, a.all, _CMP_UNORD_Q)}; }
[[gnu::always_inline]] inline Mask16 first_lanes(int n) { return {lanes::first(n)}; }
[[gnu::always_inline]] inline std::uint32_t mask_bits(Mask16 mask) { return mask.all; }
[[gnu::always_inline]] inline F32x16 select(Mask16 mask, F32x16 a, F32x16 b) {
  return {_mm512_mask_blend_ps(mask.all, b.all, a.all)};
}

[[gnu::always_inline]] inline U32x16 bits(F32x16 v) { return {_mm512_castps_si512(v.all)}; }
[[gnu::always_inline]] inline F32x16 floats(U32x16 v) { return {_mm512_castsi512_ps(v.all)}; }
[[gnu::always_inline]] inline U32x16 broadcast_bits(std::uint32_t x) {
  return {_mm512_set1_epi32(static_cast<int>(x))};
}
[[gnu::always_inline]] inline U32x16 add(U32x16 a, U32x16 b) { return {_mm512_add_epi32(a.all, b.all)}; }
[[gnu::always_inline]] inline U32x16 sub(U32x16 a, U32x16 b) { return {_mm512_sub_epi32(a.all, b.all)}; }
[[gnu::always_inline]] inline U32x16 bit_and(U32x16 a, U32x16 b) { return {_mm512_and_si512(a.all, b.all)}; }
[[gnu::always_inline]] inline U32x16 bit_or(U32x16 a, U32x16 b) { return {_mm512_or_si512(a.all, b.all)}; }
[[gnu::always_inline]] inline U32x16 bit_xor(U32x16 a, U32x16 b) { return {_mm512_xor_si512(a.all, b.all)}; }
template <int kBits>
[[gnu::always_inline]] inline U32x16 shift_left(U32x16 v) {
  return {_mm512_slli_epi32(v.all, kBits)};
}
template <int kBits>
[[gnu::always_inline]] inline U32x16 shift_right(U32x16 v) {
  return {_mm512_srli_epi32(v.all, kBits)};
}

[[gnu::always_inline]] inline float sum(F32x16 v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v.all), _mm512_extractf32x8_ps(v.all, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
[[gnu::always_inline]] inline float maximum(F32x16 v) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v.all), _mm512_extractf32x8_ps(v.all, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace isa_avx512
}  // namespace zoetrope
