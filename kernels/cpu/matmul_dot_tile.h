// Tiles of 32 outputs whose x comes as words of two bf16: VDPBF16PS where the CPU has it, else what it is defined to
// do.
#pragma once

#include "kernels/cpu/matmul_panel.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// For every word of two bf16: sum = x.odd * w.odd + sum, then sum = x.even * w.even + sum.
[[gnu::always_inline]] inline void multiply_add_pairs(F32x16& sum, std::uint32_t x, const U32x16& w) {
#if defined(__AVX512BF16__)
  // In assembly for the same reason as multiply_add.
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum.all) : "v"(broadcast_bits(x).all), "v"(w.all));
#else
  const U32x16 xs = broadcast_bits(x);
  const U32x16 odd = broadcast_bits(0xffff0000);
  multiply_add(sum, floats(bit_and(xs, odd)), floats(bit_and(w, odd)));
  multiply_add(sum, floats(shift_left<16>(xs)), floats(shift_left<16>(w)));
#endif
}

// Walk::kPairs, and Walk::kPairsScaled where kScaled.
template <int kRows, bool kScaled, int kLines>
void dot_tile(const Tile& tile) {
  const Tile t = tile;
  const std::uint32_t* x = static_cast<const std::uint32_t*>(t.x);
  const float* w = static_cast<const float*>(t.w);
  const char* prefetch = t.prefetch;
  Sums<kRows, 2> sums;
  sums.begin(t.sums, t.begins || kScaled);
  for (std::int64_t pair = t.pairs; pair > 0; --pair) {
    prefetch_lines<kLines>(prefetch);
    prefetch += t.prefetch_step;
    const U32x16 w0 = bits(load(w));
    const U32x16 w1 = bits(load(w + 16));
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      multiply_add_pairs(sums.v[r][0], x[r], w0);
      multiply_add_pairs(sums.v[r][1], x[r], w1);
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

// Fused multiply-adds in fp32 mode, dot_tile in bf16 mode.
template <int kTileRows>
struct DotTable {
  FmaTable<kTileRows, kTileRows> tiles;

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

template <int kTileRows>
constexpr DotTable<kTileRows> make_dot_table() {
  DotTable<kTileRows> table{make_fma_table<kTileRows, kTileRows>()};
  table.template fill<kTileRows>();
  return table;
}

}  // inline namespace ZOETROPE_ISA
}  // namespace zoetrope
