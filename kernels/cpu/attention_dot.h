// bf16 attention by dot products of pairs, for CPUs with VDPBF16PS. A row's numbers are kept as words of two bf16, so
// that one word of a row serves two steps.
#pragma once

#include "kernels/cpu/attention_visit.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// sum += odd elements' product, then even elements' product: the definition of VDPBF16PS, and one instruction where
// there is one.
[[gnu::always_inline]] inline void accumulate_pairs(F32x16& sum, F32x16 words, F32x16 pairs) {
#if defined(__AVX512BF16__)
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum.all) : "v"(pairs.all), "v"(words.all));
#else
  const U32x16 upper = broadcast_bits(0xffff0000);
  sum = fma(floats(bit_and(bits(pairs), upper)), floats(bit_and(bits(words), upper)), sum);
  sum = fma(floats(shift_left<16>(bits(pairs))), floats(shift_left<16>(bits(words))), sum);
#endif
}

template <int kMostRows, int kMostPairedRows>
struct DotProduct {
  static constexpr bool kBf16 = true;
  static constexpr int kRows = kMostRows;
  static constexpr int kPairedRows = kMostPairedRows;

  template <int R, int P>
  [[gnu::noinline]] static void tile(const ProductBlock& block) {
    if (P == 2 && block.fetches >= 0) {
      walk<R, P, true>(block);
    } else {
      walk<R, P, false>(block);
    }
  }

  // kShares: two blocks of rows share the fetching, a panel each. A fetch takes a load's place, and with eight rows two
  // of three loads are numbers of rows already.
  template <int R, int P, bool kShares>
  [[gnu::always_inline]] static void walk(const ProductBlock& block) {
    F32x16 sums[R][P];
    begin<R, P>(block, sums);
    const float* panel = reinterpret_cast<const float*>(block.panel);  // a lane's pair is one word
    const std::int64_t next = block.panel_bytes / static_cast<std::int64_t>(sizeof(float));
    const int pairs = block.last / 2;
    const float* fetching = kShares ? panel + block.fetches * next : panel;
    const std::int64_t ahead = kShares ? block.ahead[block.fetches] : 0;
    for (int k = block.first / 2; k < pairs; ++k) {
      F32x16 words[P];
      for (int p = 0; p < P; ++p) {
        words[p] = load(panel + p * next + k * kPanelLanes);
        if constexpr (!kShares) {
          fetch_ahead<P>(panel + p * next + k * kPanelLanes, p, block);
        }
      }
      if constexpr (kShares) {
        const char* line = reinterpret_cast<const char*>(fetching + k * kPanelLanes);
        __builtin_prefetch(line + P * block.panel_bytes);
        __builtin_prefetch(line + ahead, 0, 2);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const F32x16 pair = broadcast(block.rows[r * kStripStride + k]);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          accumulate_pairs(sums[r][p], words[p], pair);
        }
      }
    }
    if (block.last % 2 != 0) {  // a pair whose odd element is not seen
      F32x16 even[P];
      for (int p = 0; p < P; ++p) {
        even[p] = floats(shift_left<16>(bits(load(panel + p * next + pairs * kPanelLanes))));
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const F32x16 number = floats(shift_left<16>(bits(broadcast(block.rows[r * kStripStride + pairs]))));
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          sums[r][p] = fma(number, even[p], sums[r][p]);
        }
      }
    }
    end<R, P>(block, sums);
  }

  static void pack(const float* query, int n, float* row) {
    by_lanes(n, [&](int d, const auto& take, const auto&) { keep(row, d, take(query + d)); });
  }
  // Column j lies in a half of word j / 2. In place: what is written over was read before.
  static void keep(float* row, int column, F32x16 numbers) {
#if defined(__AVX512BF16__)
    // Rounds as store_bf16 does, but for denormal numbers; a probability is none.
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<std::uint16_t*>(row) + column),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(numbers.all)));
#else
    store_bf16(reinterpret_cast<std::uint16_t*>(row) + column, numbers);
#endif
  }
};

}  // namespace ZOETROPE_ISA
}  // namespace zoetrope
