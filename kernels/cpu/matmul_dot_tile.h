// Tiles of 32 outputs whose x comes as words of two bf16: VDPBF16PS where the CPU has it, else what it is defined to
// do.
#pragma once

#include <utility>

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

// A panel in one slice, k pair by k pair.
struct DotPanel {
  const std::uint32_t* x;  // [k pair][rows]
  const std::byte* w;      // [k pair][32] words
  std::int64_t pairs;
  const std::byte* fetched;       // what to fetch beside the first pairs, of which there are
  std::int64_t fetched_pairs;     // so many,
  const std::byte* fetched_next;  // and beside the others
  float* sums;                    // [rows][32]
};

// kFetches: hints are given, else it is left to the CPU what to fetch.
template <int kRows, bool kFetches>
[[gnu::noinline]] void dot_panel(const DotPanel& panel) {  // inlined, gcc 12 keeps the sums in memory
  const DotPanel t = panel;
  const std::uint32_t* x = t.x;
  const float* w = reinterpret_cast<const float*>(t.w);
  const char* fetched = reinterpret_cast<const char*>(t.fetched);
  Sums<kRows, 2> sums;
  sums.begin(nullptr, /*zeros=*/true);
  for (std::int64_t pair = 0; pair < t.pairs; ++pair) {
    if constexpr (kFetches) {
      fetched = pair == t.fetched_pairs ? reinterpret_cast<const char*>(t.fetched_next) : fetched;
      prefetch_lines<2>(fetched);
      fetched += 128;
    }
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
  sums.end(t.sums);
}

// All panels of a job in one slice, for few rows: one long read of the weights, with as little as can be
// between two panels, which have some 10 KB each.
template <int kRows, bool kFetches, typename Tiles>
void dot_slice(Panel<Tiles>& p, int slice) {
  const PanelJob& job = p.job;
  const bool last = slice + 1 == job.slices;
  const std::byte* w = p.weights(slice, 0);
  const std::byte* const end = w + job.panels * p.slice_bytes;
  const std::byte* next = last ? job.next_weights : job.weights + (slice + 1) * job.weights_stride;
  if (next == nullptr) {
    next = job.weights;
  }
  const auto* x = reinterpret_cast<const std::uint32_t*>(job.x + slice * p.padded * p.x_bytes() * kRows);
  for (p.panel = 0; p.panel < job.panels; ++p.panel, w += p.slice_bytes) {
    if (last) {
      fetch_output(p, 0, kRows);
    }
    const std::int64_t fetched = kFarPrefetchBytes - (end - w);  // behind the end of this slice
    dot_panel<kRows, kFetches>({x, w, p.padded / 2, fetched < 0 ? w + kFarPrefetchBytes : next + fetched,
                                fetched < 0 ? -fetched / 128 : p.padded / 2, next, p.level(level_of(slice))});
    finish_tile(p, slice, 0, kRows);
  }
}

// dot_slice for the rows of the job.
template <bool kFetches, typename Tiles>
void dot_slice_of(Panel<Tiles>& p, int slice) {
  const auto call = [&]<int... kRows>(std::integer_sequence<int, kRows...>) {
    static constexpr void (*kAt[])(Panel<Tiles>&, int) = {dot_slice<kRows + 1, kFetches, Tiles>...};
    kAt[p.job.rows - 1](p, slice);
  };
  call(std::make_integer_sequence<int, Tiles::kSliceRows>());
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

}  // namespace ZOETROPE_ISA
}  // namespace zoetrope
