// The lanes of simd.h as two AVX2 registers. Included by simd.h only, which says what each operation means.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace zoetrope {
inline namespace isa_avx2 {

struct F32x16 {
  __m256 low, high;  // lanes 0-7, 8-15
};
struct U32x16 {
  __m256i low, high;
};
struct Mask16 {
  __m256 low, high;  // all ones or zero in each lane
};

namespace lanes {
[[gnu::always_inline]] inline __m256i first(int n) {  // lanes 0 .. n - 1 of eight; n may lie outside [0, 8]
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
[[gnu::always_inline]] inline __m256 widen(__m128i eight) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
}
// Eight floats to bf16 in the low halves of eight 32-bit lanes: round_bf16 of simd.h.
[[gnu::always_inline]] inline __m256i narrow(__m256 v) {
  const __m256i u = _mm256_castps_si256(v);
  const __m256i lowest = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), lowest);
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}
}  // namespace lanes

[[gnu::always_inline]] inline F32x16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
[[gnu::always_inline]] inline F32x16 load_first(const float* p, int n) {
  return {_mm256_maskload_ps(p, lanes::first(n)), _mm256_maskload_ps(p + 8, lanes::first(n - 8))};
}
[[gnu::always_inline]] inline void store(float* p, F32x16 v) {
  _mm256_storeu_ps(p, v.low);
  _mm256_storeu_ps(p + 8, v.high);
}
[[gnu::always_inline]] inline void store_first(float* p, F32x16 v, int n) {
  _mm256_maskstore_ps(p, lanes::first(n), v.low);
  _mm256_maskstore_ps(p + 8, lanes::first(n - 8), v.high);
}
[[gnu::always_inline]] inline F32x16 broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
[[gnu::always_inline]] inline F32x16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }

[[gnu::always_inline]] inline F32x16 load_bf16(const std::uint16_t* p) {
  return {lanes::widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          lanes::widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
[[gnu::always_inline]] inline F32x16 load_bf16_first(const std::uint16_t* p, int n) {
  std::uint16_t padded[16] = {};
  std::memcpy(padded, p, static_cast<std::size_t>(n) * sizeof *p);
  return load_bf16(padded);
}
[[gnu::always_inline]] inline void store_bf16(std::uint16_t* p, F32x16 v) {
  // packus works in halves of 128 bits: the four quarters come out as 0 2 1 3.
  const __m256i packed = _mm256_packus_epi32(lanes::narrow(v.low), lanes::narrow(v.high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
[[gnu::always_inline]] inline void store_bf16_first(std::uint16_t* p, F32x16 v, int n) {
  std::uint16_t all[16];
  store_bf16(all, v);
  std::memcpy(p, all, static_cast<std::size_t>(n) * sizeof *p);
}

[[gnu::always_inline]] inline F32x16 add(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
[[gnu::always_inline]] inline F32x16 sub(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
[[gnu::always_inline]] inline F32x16 mul(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
[[gnu::always_inline]] inline F32x16 div(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
[[gnu::always_inline]] inline F32x16 sqrt(F32x16 a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }
[[gnu::always_inline]] inline F32x16 fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
[[gnu::always_inline]] inline F32x16 fnma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)};
}
[[gnu::always_inline]] inline F32x16 min(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
[[gnu::always_inline]] inline F32x16 max(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}

[[gnu::always_inline]] inline Mask16 less(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ)};
}
[[gnu::always_inline]] inline Mask16 greater(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ)};
}
[[gnu::always_inline]] inline Mask16 is_nan(F32x16 a) {
  return {_mm256_cmp_ps(a.low, a.low, _CMP_UNORD_Q), _mm256_cmp_ps(a.high, a.high, _CMP_UNORD_Q)};
}
[[gnu::always_inline]] inline Mask16 first_lanes(int n) {
  return {_mm256_castsi256_ps(lanes::first(n)), _mm256_castsi256_ps(lanes::first(n - 8))};
}
[[gnu::always_inline]] inline std::uint32_t mask_bits(Mask16 mask) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(mask.low) | (_mm256_movemask_ps(mask.high) << 8));
}
[[gnu::always_inline]] inline F32x16 select(Mask16 mask, F32x16 a, F32x16 b) {
  return {_mm256_blendv_ps(b.low, a.low, mask.low), _mm256_blendv_ps(b.high, a.high, mask.high)};
}

[[gnu::always_inline]] inline U32x16 bits(F32x16 v) {
  return {_mm256_castps_si256(v.low), _mm256_castps_si256(v.high)};
}
[[gnu::always_inline]] inline F32x16 floats(U32x16 v) {
  return {_mm256_castsi256_ps(v.low), _mm256_castsi256_ps(v.high)};
}
[[gnu::always_inline]] inline U32x16 broadcast_bits(std::uint32_t x) {
  return {_mm256_set1_epi32(static_cast<int>(x)), _mm256_set1_epi32(static_cast<int>(x))};
}
[[gnu::always_inline]] inline U32x16 add(U32x16 a, U32x16 b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
[[gnu::always_inline]] inline U32x16 sub(U32x16 a, U32x16 b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
[[gnu::always_inline]] inline U32x16 bit_and(U32x16 a, U32x16 b) {
  return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
}
[[gnu::always_inline]] inline U32x16 bit_or(U32x16 a, U32x16 b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
[[gnu::always_inline]] inline U32x16 bit_xor(U32x16 a, U32x16 b) {
  return {_mm256_xor_si256(a.low, b.low), _mm256_xor_si256(a.high, b.high)};
}
template <int kBits>
[[gnu::always_inline]] inline U32x16 shift_left(U32x16 v) {
  return {_mm256_slli_epi32(v.low, kBits), _mm256_slli_epi32(v.high, kBits)};
}
template <int kBits>
[[gnu::always_inline]] inline U32x16 shift_right(U32x16 v) {
  return {_mm256_srli_epi32(v.low, kBits), _mm256_srli_epi32(v.high, kBits)};
}

[[gnu::always_inline]] inline float sum(F32x16 v) {
  const __m256 eight = _mm256_add_ps(v.low, v.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
[[gnu::always_inline]] inline float maximum(F32x16 v) {
  const __m256 eight = _mm256_max_ps(v.low, v.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace isa_avx2
}  // namespace zoetrope
