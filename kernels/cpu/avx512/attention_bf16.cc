#include "kernels/cpu/attention_visit.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// bf16 by VDPBF16PS, which is defined as the two multiply-adds of WidenedProduct. A row's numbers are kept as bf16
// pairs.
template <int kMostRows, int kMostPairedRows>
struct DotProduct {
  static constexpr bool kBf16 = true;
  static constexpr int kRows = kMostRows;
  static constexpr int kPairedRows = kMostPairedRows;

  template <int R, int P>
  [[gnu::noinline]] static void tile(const ProductBlock& block) {
    F32x16 sums[R][P];
    begin<R, P>(block, sums);
    const float* panel = reinterpret_cast<const float*>(block.panel);  // a lane's pair is one word
    const std::int64_t next = block.panel_bytes / static_cast<std::int64_t>(sizeof(float));
    const int pairs = block.last / 2;
    for (int k = block.first / 2; k < pairs; ++k) {
      __m512bh words[P];
      for (int p = 0; p < P; ++p) {
        words[p] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + p * next + k * kPanelLanes));
        __builtin_prefetch(reinterpret_cast<const char*>(panel + p * next + k * kPanelLanes) + P * kPrefetchBytes);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const auto pair =
            reinterpret_cast<__m512bh>(_mm512_castps_si512(_mm512_set1_ps(block.rows[r * kStripStride + k])));
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          sums[r][p].all = _mm512_dpbf16_ps(sums[r][p].all, words[p], pair);
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
    for (int d = 0; d < n; d += kPanelLanes) {
      keep(row, d, load_first(query + d, n - d < kPanelLanes ? n - d : kPanelLanes));
    }
  }
  // Column j of the row lies in the upper or lower half of word j / 2. In place: what is written was read before.
  static void keep(float* row, int column, F32x16 numbers) {
    store_bf16(reinterpret_cast<std::uint16_t*>(row) + column, numbers);
  }
};

}  // namespace ZOETROPE_ISA

const AttentionBody& attention_body_avx512bf16() {
  static const AttentionBody table = attention_table<DotProduct<12, 12>, SingleProduct<12, 12>>();
  return table;
}

}  // namespace zoetrope
