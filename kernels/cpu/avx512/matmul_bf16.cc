// Matrix products with VDPBF16PS in bf16 mode, and with AVX-512 fused multiply-adds in fp32 mode.
#include "kernels/cpu/avx512/matmul_tiles.h"
#include "kernels/cpu/matmul_ceiling.h"

namespace zoetrope {
namespace {

// kPairs and kPairsScaled with one instruction for 16 outputs and two k; x as words of two bf16.
template <int kRows, bool kScaled, int kLines>
void dot_tile(const Tile& tile) {
  const Tile t = tile;
  const std::uint32_t* x = static_cast<const std::uint32_t*>(t.x);
  const std::uint32_t* w = static_cast<const std::uint32_t*>(t.w);
  const char* prefetch = t.prefetch;
  Sums<kRows, 2> sums;
  sums.begin(t.sums, t.begins || kScaled);
  for (std::int64_t pair = t.pairs; pair > 0; --pair) {
    prefetch_lines<kLines>(prefetch);
    prefetch += t.prefetch_step;
    const __m512i w0 = _mm512_loadu_si512(w);
    const __m512i w1 = _mm512_loadu_si512(w + 16);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i xr = _mm512_set1_epi32(static_cast<int>(x[r]));
      // In assembly for the same reason as multiply_add.
      asm("vdpbf16ps %2, %1, %0" : "+v"(sums.v[r][0].all) : "v"(xr), "v"(w0));
      asm("vdpbf16ps %2, %1, %0" : "+v"(sums.v[r][1].all) : "v"(xr), "v"(w1));
    }
    x += kRows;
    w += 32;
  }
  if constexpr (kScaled) {
    float block[kRows * 32];
    sums.end(block);
    add_scaled<kRows, 2>(t, block);
  } else {
    sums.end(t.sums);
  }
}

constexpr int kRowsMax = 12;

struct Table {
  FmaTable<kRowsMax, kRowsMax> tiles;

  template <int kRows>
  constexpr void fill() {
    TileFunction(&row)[kWalks][2] = tiles.at[kRows - 1];
    row[static_cast<int>(Walk::kPairs)][0] = dot_tile<kRows, false, 1>;
    row[static_cast<int>(Walk::kPairs)][1] = dot_tile<kRows, false, 2>;
    row[static_cast<int>(Walk::kPairsScaled)][0] = dot_tile<kRows, true, 1>;
    row[static_cast<int>(Walk::kPairsScaled)][1] = dot_tile<kRows, true, 2>;
    if constexpr (kRows > 1) {
      fill<kRows - 1>();
    }
  }
};

constexpr Table make_table() {
  Table table{make_fma_table<kRowsMax, kRowsMax>()};
  table.fill<kRowsMax>();
  return table;
}

double multiply_pairs_in_registers(std::int64_t rounds, bool bf16_mode) {
  constexpr int kSums = 24;
  if (!bf16_mode) {
    return multiply_in_registers_of<kSums>(rounds, false);
  }
  __m512 sums[kSums];
#pragma GCC unroll 32
  for (int i = 0; i < kSums; ++i) {
    sums[i] = _mm512_setzero_ps();
  }
  const __m512i a = _mm512_set1_epi32(0x3f003f00);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < kSums; ++i) {
      asm("vdpbf16ps %1, %1, %0" : "+v"(sums[i]) : "v"(a));
    }
  }
  __m512 all = sums[0];
  for (int i = 1; i < kSums; ++i) {
    all = _mm512_add_ps(all, sums[i]);
  }
  volatile float kept = sum(F32x16{all});  // the sums are needed
  (void)kept;
  return static_cast<double>(rounds) * kSums * 16 * 4;
}

struct Avx512Bf16Tiles {
  static constexpr int kTileRows = kRowsMax;
  static constexpr bool kPairs = true;
  static constexpr Table kTable = make_table();

  static int vectors(int) { return 2; }
  static bool reads_bytes(int) { return false; }
  static TileFunction tile(int rows, Walk walk, int lines) {
    return kTable.tiles.at[rows - 1][static_cast<int>(walk)][lines - 1];
  }
  static void widen_fp8(const std::uint8_t* from, std::int64_t pairs, std::uint32_t* to) { widen_all_fp8(from, pairs, to); }
};

}  // namespace

const MatmulBody& matmul_body_avx512bf16() {
  static constexpr MatmulBody kBody{Avx512Bf16Tiles::kTileRows, Avx512Bf16Tiles::kPairs, pack_tile_of<Avx512Bf16Tiles>,
                                    panel_of<Avx512Bf16Tiles>, multiply_pairs_in_registers, read_memory_of<>};
  return kBody;
}

}  // namespace zoetrope
