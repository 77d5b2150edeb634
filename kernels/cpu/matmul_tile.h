// The innermost loop of a matrix product: some rows of x times 16 or 32 outputs, one accumulator per element, k
// upwards. Compiled once per instruction set, by files under cpu/<isa>/ only.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// How k is walked and what the weights of one tile are.
enum class Walk {
  kAscending,    // fp32 mode: words of two bf16, even element first, then odd
  kPairs,        // bf16 mode: words of two bf16, odd element first, then even (VDPBF16PS)
  kPairsScaled,  // FP8 in bf16 mode: as kPairs from zero; then sum = fma(block sum, scale, sum)
  kBytesScaled,  // as kPairsScaled, w being the stored bytes [k pair][32][2]; not in every instruction set
  kWide,         // as kAscending, w being rows of fp32, already scaled if they were FP8
  kWidePairs,    // as kPairs, w being rows of fp32: of each pair the odd one first
};
inline constexpr int kWalks = 6;

struct Tile {
  const void* x;               // fp32 [k][rows], or words of two bf16 [k pair][rows]
  const void* w;               // words [k pair][32], or fp32 [k][32]
  std::int64_t pairs;          // of k
  float* sums;                 // [rows][32]
  const float* scales;         // kPairsScaled: one for each 16 outputs
  bool begins;                 // sums start from zero
  const char* prefetch;        // line fetched at the first pair of k ...
  std::int64_t prefetch_step;  // ... and how far it moves with every pair
  std::int64_t x_ahead;        // kWide, kWidePairs: bytes from x to what is multiplied next, or 0
};

using TileFunction = void (*)(const Tile& tile);

// The odd and the even elements of 16 words of two bf16, as fp32.
[[gnu::always_inline]] inline F32x16 odd_elements(const std::uint32_t* w) {
  return floats(bit_and(bits(load(reinterpret_cast<const float*>(w))), broadcast_bits(0xffff0000)));
}
[[gnu::always_inline]] inline F32x16 even_elements(const std::uint32_t* w) {
  return floats(shift_left<16>(bits(load(reinterpret_cast<const float*>(w)))));
}

// sum = x * w + sum, the sum staying in its register: left to itself, gcc 12 renames the accumulators of a full
// register file and spills them.
[[gnu::always_inline]] inline void multiply_add(F32x16& sum, F32x16 x, F32x16 w) {
#if defined(__AVX512F__)
  asm("vfmadd231ps %2, %1, %0" : "+v"(sum.all) : "v"(x.all), "v"(w.all));
#elif defined(__AVX2__)
  asm("vfmadd231ps %2, %1, %0" : "+x"(sum.low) : "x"(x.low), "x"(w.low));
  asm("vfmadd231ps %2, %1, %0" : "+x"(sum.high) : "x"(x.high), "x"(w.high));
#else
  sum = fma(x, w, sum);
#endif
}

template <int kRows, int kVectors>
struct Sums {
  F32x16 v[kRows][kVectors];

  [[gnu::always_inline]] void begin(const float* from, bool zeros) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        v[r][j] = zeros ? zero() : load(from + r * 32 + j * 16);
      }
    }
  }
  [[gnu::always_inline]] void end(float* to) const {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        store(to + r * 32 + j * 16, v[r][j]);
      }
    }
  }
  // One k: x[r] times 16 kVectors weights.
  [[gnu::always_inline]] void add_products(const float* x, const F32x16* w) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32x16 xr = broadcast(x[r]);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        multiply_add(v[r][j], xr, w[j]);
      }
    }
  }
};

// The end of a block of k that has a scale of its own.
template <int kRows, int kVectors>
[[gnu::always_inline]] inline void add_scaled(const Tile& t, const float* block) {
  for (int j = 0; j < kVectors; ++j) {
    const F32x16 scale = broadcast(t.scales[j]);
    for (int r = 0; r < kRows; ++r) {
      float* at = t.sums + r * 32 + j * 16;
      store(at, fma(load(block + r * 32 + j * 16), scale, t.begins ? zero() : load(at)));
    }
  }
}

// Where the compiler may not move or merge loads: a load kept in a register for its second use costs a spill in tiles
// that fill the register file.
[[gnu::always_inline]] inline void keep_loads_apart() { asm volatile("" ::: "memory"); }

template <int kLines>
[[gnu::always_inline]] inline void prefetch_lines(const char* at) {
  __builtin_prefetch(at);
  if constexpr (kLines == 2) {
    __builtin_prefetch(at + 64);
  }
}

// Fused multiply-adds in fp32; kLines: cache lines of weights to fetch per pair of k.
template <int kRows, int kVectors, Walk kWalk, int kLines>
void fma_tile(const Tile& tile) {
  const Tile t = tile;
  const float* x = static_cast<const float*>(t.x);
  const std::uint32_t* w = static_cast<const std::uint32_t*>(t.w);
  const char* prefetch = t.prefetch;
  Sums<kRows, kVectors> sums;
  sums.begin(t.sums, t.begins || kWalk == Walk::kPairsScaled);
  for (std::int64_t pair = t.pairs; pair > 0; --pair) {
    prefetch_lines<kLines>(prefetch);
    prefetch += t.prefetch_step;
    if constexpr (kWalk == Walk::kWide || kWalk == Walk::kWidePairs) {
      prefetch_lines<kRows <= 8 ? 1 : 2>(reinterpret_cast<const char*>(x) + t.x_ahead);
    }
    F32x16 first[kVectors], second[kVectors];
    constexpr bool kOddFirst = kWalk == Walk::kPairs || kWalk == Walk::kPairsScaled || kWalk == Walk::kWidePairs;
    constexpr bool kRowsOfFp32 = kWalk == Walk::kWide || kWalk == Walk::kWidePairs;
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      first[j] = kRowsOfFp32 ? load(reinterpret_cast<const float*>(w) + j * 16)
                 : kOddFirst ? odd_elements(w + j * 16)
                             : even_elements(w + j * 16);
    }
    sums.add_products(x + (kOddFirst ? kRows : 0), first);
    keep_loads_apart();
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      second[j] = kRowsOfFp32 ? load(reinterpret_cast<const float*>(w) + 32 + j * 16)
                  : kOddFirst ? even_elements(w + j * 16)
                              : odd_elements(w + j * 16);
    }
    sums.add_products(x + (kOddFirst ? 0 : kRows), second);
    x += 2 * kRows;
    w += kRowsOfFp32 ? 64 : 32;
  }
  if constexpr (kWalk == Walk::kPairsScaled) {
    float block[kRows * 32];
    sums.end(block);
    add_scaled<kRows, kVectors>(t, block);
  } else {
    sums.end(t.sums);
  }
}

}  // namespace ZOETROPE_ISA
}  // namespace zoetrope
