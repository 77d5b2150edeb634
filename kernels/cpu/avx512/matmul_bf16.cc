// Matrix products with VDPBF16PS in bf16 mode, and with AVX-512 fused multiply-adds in fp32 mode.
#include "kernels/cpu/avx512/matmul_tiles.h"
#include "kernels/cpu/matmul_ceiling.h"
#include "kernels/cpu/matmul_dot_tile.h"

namespace zoetrope {
namespace {

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
  // Every loop over the sums is unrolled, or gcc 12 keeps them in memory and the ceiling is half as high.
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < kSums; ++i) {
      asm("vdpbf16ps %1, %1, %0" : "+v"(sums[i]) : "v"(a));
    }
  }
  __m512 all = sums[0];
#pragma GCC unroll 32
  for (int i = 1; i < kSums; ++i) {
    all = _mm512_add_ps(all, sums[i]);
  }
  volatile float kept = sum(F32x16{all});  // the sums are needed
  (void)kept;
  return static_cast<double>(rounds) * kSums * 16 * 4;
}

// Walk::kBytesScaled: rows of one pass over the weights, whose bytes are read once and widened in registers.
template <int kRows>
void bytes_dot_tile(const Tile& tile) {
  const Tile t = tile;
  const Fp8Widener widener;
  const std::uint32_t* x = static_cast<const std::uint32_t*>(t.x);
  const std::uint8_t* w = static_cast<const std::uint8_t*>(t.w);
  const char* prefetch = t.prefetch;
  Sums<kRows, 2> sums;
  sums.begin(nullptr, /*zeros=*/true);
  for (std::int64_t pair = t.pairs; pair > 0; --pair) {
    prefetch_lines<1>(prefetch);
    prefetch += t.prefetch_step;
    U32x16 first, second;
    widener.widen(w, first.all, second.all);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      multiply_add_pairs(sums.v[r][0], x[r], first);
      multiply_add_pairs(sums.v[r][1], x[r], second);
    }
    x += kRows;
    w += 64;
  }
  float block[kRows * 32];
  sums.end(block);
  add_scaled<kRows, 2>(t, block);
}

// More rows leave no registers for the tables.
constexpr int kBytesRows = 8;
constexpr TileFunction kBytesTiles[kBytesRows] = {bytes_dot_tile<1>, bytes_dot_tile<2>, bytes_dot_tile<3>,
                                                  bytes_dot_tile<4>, bytes_dot_tile<5>, bytes_dot_tile<6>,
                                                  bytes_dot_tile<7>, bytes_dot_tile<8>};

struct Avx512Bf16Tiles {
  static constexpr int kTileRows = 12;
  static constexpr bool kPairs = true;
  static constexpr int kStreams = 1;
  static constexpr int kSliceRows = 4;
  static constexpr DotTable<kTileRows> kTable = make_dot_table<kTileRows>();

  static int vectors(int) { return 2; }
  static bool reads_bytes(int rows) { return rows <= kBytesRows; }
  static TileFunction tile(int rows, Walk walk, int lines) {
    if (walk == Walk::kBytesScaled) {
      return kBytesTiles[rows - 1];
    }
    return kTable.tiles.at[rows - 1][static_cast<int>(walk)][lines - 1];
  }
  // Few rows wait for memory alone, which Zen 4 reads a tenth faster without hints.
  static void multiply_slice(Panel<Avx512Bf16Tiles>& p, int slice) {
    __builtin_cpu_is("amdfam19h") ? dot_slice_of<false>(p, slice) : dot_slice_of<true>(p, slice);
  }
  static void widen_fp8(const std::uint8_t* from, std::int64_t pairs, std::uint32_t* to) {
    widen_all_fp8(from, pairs, to);
  }
};

}  // namespace

const MatmulBody& matmul_body_avx512bf16() {
  static constexpr MatmulBody kBody{Avx512Bf16Tiles::kTileRows,    Avx512Bf16Tiles::kPairs,
                                    pack_tile_of<Avx512Bf16Tiles>, panel_of<Avx512Bf16Tiles>,
                                    multiply_pairs_in_registers,   read_memory_of<>};
  return kBody;
}

}  // namespace zoetrope
