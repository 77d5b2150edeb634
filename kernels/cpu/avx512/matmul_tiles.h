// How AVX-512 multiplies: tiles of 12 x 32 sums, one register of 16 sums each, 24 of 32 registers.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/fp8.h"
#include "kernels/cpu/matmul_panel.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// The lower and the upper bytes of the bf16 of every code without its sign.
struct Fp8Bytes {
  alignas(64) std::uint8_t low[128];
  alignas(64) std::uint8_t high[128];
};
constexpr Fp8Bytes make_fp8_bytes() {
  Fp8Bytes bytes{};
  for (int code = 0; code < 128; ++code) {
    bytes.low[code] = static_cast<std::uint8_t>(kE4m3Table.bf16[code] & 0xff);
    bytes.high[code] = static_cast<std::uint8_t>(kE4m3Table.bf16[code] >> 8);
  }
  return bytes;
}
inline constexpr Fp8Bytes kFp8Bytes = make_fp8_bytes();

// 64 e4m3 codes to bf16 by two byte tables of 128 entries and the sign.
struct Fp8Widener {
  const __m512i low[2] = {_mm512_load_si512(kFp8Bytes.low), _mm512_load_si512(kFp8Bytes.low + 64)};
  const __m512i high[2] = {_mm512_load_si512(kFp8Bytes.high), _mm512_load_si512(kFp8Bytes.high + 64)};
  // unpack works in quarters of 128 bits: the quarters of the two halves of the result are put together before, so that
  // columns 0-15 and 16-31 come out in order; fp8_byte() says how they are stored.
  const __m512i order = _mm512_setr_epi64(0, 4, 2, 6, 1, 5, 3, 7);

  [[gnu::always_inline]] void widen(const std::uint8_t* from, __m512i& first, __m512i& second) const {
    const __m512i codes = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(from));
    const __m512i l = _mm512_permutex2var_epi8(low[0], codes, low[1]);  // bit 7 of the index is ignored
    __m512i h = _mm512_permutex2var_epi8(high[0], codes, high[1]);
    h = _mm512_ternarylogic_epi32(h, codes, _mm512_set1_epi8(-0x80), 0xf8);  // h | (codes & sign)
    first = _mm512_unpacklo_epi8(l, h);
    second = _mm512_unpackhi_epi8(l, h);
  }
};

inline void widen_all_fp8(const std::uint8_t* from, std::int64_t pairs, std::uint32_t* to) {
  const Fp8Widener widener;
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    __m512i first, second;
    widener.widen(from + pair * 64, first, second);
    _mm512_storeu_si512(to + pair * 32, first);
    _mm512_storeu_si512(to + pair * 32 + 16, second);
  }
}

}  // inline namespace ZOETROPE_ISA
}  // namespace zoetrope
