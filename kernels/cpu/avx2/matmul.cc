// Matrix products with AVX2: 16 registers hold tiles of 6 x 16 or 2 x 32 sums; bf16 weights are widened in the loop.
#include <immintrin.h>

#include "kernels/cpu/matmul_ceiling.h"
#include "kernels/cpu/matmul_panel.h"

namespace zoetrope {
namespace {

// e4m3 to bf16 by bytes. With a = code without its sign, the lower byte of the bf16 is a's low nibble shifted up, and
// the upper byte is the sign and 60 + a / 16. Subnormals (a < 8) are corrected by a table that every other code misses.
struct Fp8Widener {
  static __m256i both(__m128i table) { return _mm256_broadcastsi128_si256(table); }

  const __m256i low_nibble = both(_mm_setr_epi8(0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, -0x80, -0x70, -0x60,
                                                -0x50, -0x40, -0x30, -0x20, -0x10));
  const __m256i high_nibble = both(_mm_setr_epi8(60, 61, 62, 63, 64, 65, 66, 67, 60 - 128, 61 - 128, 62 - 128, 63 - 128,
                                                 64 - 128, 65 - 128, 66 - 128, 67 - 128));
  // Entry 8 + a, a = 0 .. 7: what is right xor what the tables above give. Right: 0, then a 2^-9 as bf16
  // 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60; the tables give 0x3c00 + 0x10 a.
  const __m256i low_fix = both(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x00 ^ 0x10, static_cast<char>(0x80 ^ 0x20),
                                             static_cast<char>(0xc0 ^ 0x30), 0x00 ^ 0x40, 0x20 ^ 0x50, 0x40 ^ 0x60,
                                             0x60 ^ 0x70));
  const __m256i high_fix =
      both(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0x3c, 0x3b ^ 0x3c, 0x3b ^ 0x3c, 0x3b ^ 0x3c, 0, 0, 0, 0));

  // 32 codes, stored as fp8_byte() says, to words of two bf16: columns 0-7 and 8-15.
  [[gnu::always_inline]] void widen(__m256i codes, __m256i& first, __m256i& second) const {
    const __m256i a = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
    const __m256i fix_at = _mm256_add_epi8(a, _mm256_set1_epi8(0x78));  // bit 7 set, so no fix, unless a < 8
    const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi8(0x0f));
    const __m256i low = _mm256_xor_si256(_mm256_shuffle_epi8(low_nibble, a), _mm256_shuffle_epi8(low_fix, fix_at));
    __m256i high = _mm256_xor_si256(_mm256_shuffle_epi8(high_nibble, upper), _mm256_shuffle_epi8(high_fix, fix_at));
    high = _mm256_or_si256(high, _mm256_cmpeq_epi8(a, _mm256_set1_epi8(0x7f)));  // a NaN
    first = _mm256_unpacklo_epi8(low, high);
    second = _mm256_unpackhi_epi8(low, high);
  }
};

// Walk::kBytesScaled for one or two rows: each byte is read once and widened in registers.
template <int kRows>
void bytes_tile(const Tile& tile) {
  const Tile t = tile;
  const Fp8Widener widener;
  const float* x = static_cast<const float*>(t.x);
  const std::uint8_t* w = static_cast<const std::uint8_t*>(t.w);
  const char* prefetch = t.prefetch;
  Sums<kRows, 2> sums;
  sums.begin(nullptr, /*zeros=*/true);
  for (std::int64_t pair = t.pairs; pair > 0; --pair) {
    prefetch_lines<1>(prefetch);
    prefetch += t.prefetch_step;
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      U32x16 words;
      widener.widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + j * 32)), words.low, words.high);
      const F32x16 odd = floats(bit_and(words, broadcast_bits(0xffff0000)));
      const F32x16 even = floats(shift_left<16>(words));
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
        multiply_add(sums.v[r][j], broadcast(x[kRows + r]), odd);
        multiply_add(sums.v[r][j], broadcast(x[r]), even);
      }
    }
    x += 2 * kRows;
    w += 64;
  }
  float block[kRows * 32];
  sums.end(block);
  add_scaled<kRows, 2>(t, block);
}

struct Avx2Tiles {
  static constexpr int kTileRows = 6;
  static constexpr int kWide = 2;
  static constexpr bool kPairs = false;
  static constexpr int kStreams = 1;
  static constexpr FmaTable<kTileRows, kWide> kTable = make_fma_table<kTileRows, kWide>();

  static int vectors(int rows) { return rows <= kWide ? 2 : 1; }
  static bool reads_bytes(int rows) { return rows <= kWide; }
  static TileFunction tile(int rows, Walk walk, int lines) {
    if (walk == Walk::kBytesScaled) {
      return rows == 1 ? bytes_tile<1> : bytes_tile<2>;
    }
    return kTable.at[rows - 1][static_cast<int>(walk)][lines - 1];
  }
  static void widen_fp8(const std::uint8_t* from, std::int64_t pairs, std::uint32_t* to) {
    const Fp8Widener widener;
    for (std::int64_t i = 0; i < pairs * 2; ++i) {  // half a row: 16 words
      __m256i first, second;
      widener.widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i * 32)), first, second);
      __m256i* out = reinterpret_cast<__m256i*>(to + i * 16);
      _mm256_storeu_si256(out, first);
      _mm256_storeu_si256(out + 1, second);
    }
  }
};

}  // namespace

const MatmulBody& matmul_body_avx2() {
  static constexpr MatmulBody kBody{Avx2Tiles::kTileRows, Avx2Tiles::kPairs, pack_tile_of<Avx2Tiles>,
                                    panel_of<Avx2Tiles>, multiply_in_registers_of<6>, read_memory_of<>};
  return kBody;
}

}  // namespace zoetrope
