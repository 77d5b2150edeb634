// The attention family in lanes of simd.h, written once and compiled for each instruction set: what a tile of query
// rows does with one page (docs/one-answer.md rule 4), and how running partials meet and end.
//
// Scores and weighted values are the same product: a block of rows, each a row of numbers, times a panel of 16 lanes. A
// lane is a position of the page for scores, a column of head_dim for values. `Product` multiplies one block; it says
//   kBf16               panels hold bf16 pairs (else fp32), probabilities are rounded
//   kRows, kPairedRows  most rows of a block over one panel, and over two at once: what its registers hold
//   tile<R, P>(block)   the product
//   pack(query, n, row), keep(row, column, probabilities)    numbers of a row into the form that tile reads
// No function of the standard library here: its out-of-line copy could be one compiled for another instruction set.
#pragma once

#include "kernels/bodies/attention_body.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_math.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

inline constexpr int kPagePositions = 256;

// Rows that go through scores, softening and weighing together: their strip stays in the L1 cache while K and V,
// brought into the L2 cache by the first of them, serve the next.
inline constexpr int kGroupRows = 24;

// out[r][lane] += sum over steps first .. last - 1, upwards, of rows[r][step] * panel[step][lane]; from zero if
// `fresh`.
struct ProductBlock {
  const float* rows = nullptr;  // kStripStride apart
  const std::byte* panel = nullptr;
  std::int64_t panel_bytes = 0;  // from a panel to the next
  int first = 0;                 // even in bf16 mode
  int last = 0;
  float* out = nullptr;
  std::int64_t out_stride = 0;
  bool fresh = false;
  std::int64_t ahead[2] = {
      0, 0};  // every line of the first, second panel that is read fetches the one so many bytes further
  int fetches = -1;  // the panel whose lines fetch, if another block of rows fetches for the other; -1: both
};

// Two distances. Far, into the L2 cache: while keys are read the values of the page are fetched, while values are read
// the keys of the next page; both are of one size, so each line fetches one, and a whole page is on its way before it
// is needed. Near, into the L1 cache: the panels that are read next.
template <int P>
[[gnu::always_inline]] inline void fetch_ahead(const void* line, int panel, const ProductBlock& block) {
  __builtin_prefetch(static_cast<const char*>(line) + P * block.panel_bytes);
  __builtin_prefetch(static_cast<const char*>(line) + block.ahead[panel], 0, 2);
}

template <int R, int P>
[[gnu::always_inline]] inline void begin(const ProductBlock& block, F32x16 (&sums)[R][P]) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      sums[r][p] = block.fresh ? zero() : load(block.out + r * block.out_stride + p * kPanelLanes);
    }
  }
}

template <int R, int P>
[[gnu::always_inline]] inline void end(const ProductBlock& block, const F32x16 (&sums)[R][P]) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      store(block.out + r * block.out_stride + p * kPanelLanes, sums[r][p]);
    }
  }
}

// sums[p] += number * panel[p]. Where lanes are two registers, six rows of one panel take all sixteen: twelve sums, the
// panel, a number, a mask. Left to itself gcc 12 keeps sums on the stack, at a third of the speed; the instructions by
// name tie sums to registers and need no second number.
template <int P, typename Lanes>
[[gnu::always_inline]] inline void accumulate(Lanes (&sums)[P], const float* number, const Lanes (&panel)[P]) {
  if constexpr (requires { sums[0].low; } && P == 1) {
    decltype(sums[0].low) every;
    asm("vbroadcastss %3, %2\n\tvfmadd231ps %4, %2, %0\n\tvfmadd231ps %5, %2, %1"
        : "+x"(sums[0].low), "+x"(sums[0].high), "=&x"(every)
        : "m"(*number), "x"(panel[0].low), "x"(panel[0].high));
  } else {
    const Lanes all = broadcast(*number);
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      sums[p] = fma(all, panel[p], sums[p]);
    }
  }
}

// One step of all rows and panels: sums += rows[step] * lanes.
template <int R, int P>
[[gnu::always_inline]] inline void step(const float* numbers, const F32x16 (&panel)[P], F32x16 (&sums)[R][P]) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    accumulate<P>(sums[r], numbers + r * kStripStride, panel);
  }
}

// What the compiler must take as it comes: a pointer it cannot tell from another, so that memory is read again; a
// constant that stays in its register instead of being an operand in memory.
[[gnu::always_inline]] inline void opaque(const float*& pointer) { asm("" : "+r"(pointer)); }
template <typename Lanes>
[[gnu::always_inline]] inline void opaque_lanes(Lanes& lanes_of) {
  if constexpr (requires { lanes_of.low; }) {
    asm("" : "+x"(lanes_of.low));
    lanes_of.high = lanes_of.low;
  }
}

// Calls each(d, take, put) for columns d .. d + 15 of a row; only the last span, if it is not whole, is read and
// written under a mask.
template <typename Each>
[[gnu::always_inline]] inline void by_lanes(int columns, const Each& each) {
  int d = 0;
  for (; d + kPanelLanes <= columns; d += kPanelLanes) {
    each(
        d, [](const float* p) { return load(p); }, [](float* p, F32x16 v) { store(p, v); });
  }
  if (const int n = columns - d; n > 0) {
    each(
        d, [n](const float* p) { return load_first(p, n); }, [n](float* p, F32x16 v) { store_first(p, v, n); });
  }
}

// fp32: one step per number.
template <int kMostRows, int kMostPairedRows>
struct SingleProduct {
  static constexpr bool kBf16 = false;
  static constexpr int kRows = kMostRows;
  static constexpr int kPairedRows = kMostPairedRows;

  template <int R, int P>
  [[gnu::noinline]] static void tile(const ProductBlock& block) {
    F32x16 sums[R][P];
    begin<R, P>(block, sums);
    const float* panel = reinterpret_cast<const float*>(block.panel);
    const std::int64_t next = block.panel_bytes / static_cast<std::int64_t>(sizeof(float));
    for (int k = block.first; k < block.last; ++k) {
      F32x16 lanes_of[P];
      for (int p = 0; p < P; ++p) {
        lanes_of[p] = load(panel + p * next + k * kPanelLanes);
        fetch_ahead<P>(panel + p * next + k * kPanelLanes, p, block);
      }
      step<R, P>(block.rows + k, lanes_of, sums);
    }
    end<R, P>(block, sums);
  }

  static void pack(const float* query, int n, float* row) {
    for (int d = 0; d < n; ++d) {
      row[d] = query[d];
    }
  }
  static void keep(float* row, int column, F32x16 probabilities) { store(row + column, probabilities); }
};

// bf16 by fp32 multiply-adds: the pair's odd element, then the even one. Products of bf16 numbers are exact.
template <int kMostRows, int kMostPairedRows>
struct WidenedProduct {
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
    U32x16 odd_elements = broadcast_bits(0xffff0000);
    opaque_lanes(odd_elements);
    const float* words = panel + std::int64_t{block.first / 2} * kPanelLanes;
    const float* numbers = block.rows + block.first / 2 * 2;
#pragma GCC unroll 2
    for (int k = block.first / 2; k < pairs; ++k) {
      F32x16 lanes_of[P];
      for (int p = 0; p < P; ++p) {
        lanes_of[p] = floats(bit_and(bits(load(words + p * next)), odd_elements));
        fetch_ahead<P>(words + p * next, p, block);
      }
      step<R, P>(numbers + 1, lanes_of, sums);
      opaque(words);  // read again, not kept: registers are taken
      for (int p = 0; p < P; ++p) {
        lanes_of[p] = floats(shift_left<16>(bits(load(words + p * next))));
      }
      step<R, P>(numbers, lanes_of, sums);
      words += kPanelLanes;
      numbers += 2;
    }
    if (block.last % 2 != 0) {  // a pair whose odd element is not seen
      F32x16 even[P];
      for (int p = 0; p < P; ++p) {
        even[p] = floats(shift_left<16>(bits(load(panel + p * next + pairs * kPanelLanes))));
      }
      step<R, P>(block.rows + block.last - 1, even, sums);
    }
    end<R, P>(block, sums);
  }

  static void pack(const float* query, int n, float* row) {
    by_lanes(n, [&](int d, const auto& take, const auto&) { store(row + d, round_bf16(take(query + d))); });
  }
  static void keep(float* row, int column, F32x16 probabilities) { store(row + column, round_bf16(probabilities)); }
};

// Calls tile<rows, P> for a number of rows known at run time.
template <typename Product, int P, int R = 1>
void run_block(int rows, const ProductBlock& block) {
  if constexpr (R <= (P == 1 ? Product::kRows : Product::kPairedRows)) {
    if (rows == R) {
      Product::template tile<R, P>(block);
    } else {
      run_block<Product, P, R + 1>(rows, block);
    }
  }
}

// Rows of a block and the columns they see.
struct RowBlock {
  int first = 0;
  int rows = 0;
  int least = 0;  // columns that every row sees
  int most = 0;   // columns that some row sees
};

template <typename Product>
int row_blocks(const PageVisit& visit, RowBlock* blocks) {
  const int count = (visit.rows + Product::kRows - 1) / Product::kRows;
  for (int b = 0; b < count; ++b) {
    RowBlock& block = blocks[b];
    block.first = visit.rows * b / count;
    block.rows = visit.rows * (b + 1) / count - block.first;
    block.least = kPagePositions;
    block.most = 0;
    for (int r = block.first; r < block.first + block.rows; ++r) {
      const int visible = visit.visible[r];
      block.least = visible < block.least ? visible : block.least;
      block.most = visible > block.most ? visible : block.most;
    }
  }
  return count;
}

template <typename Product>
std::int64_t panel_bytes(int steps) {
  return static_cast<std::int64_t>(steps) * kPanelLanes * (Product::kBf16 ? 2 : 4);
}

// Which panels of a block fetch: of two blocks that take both panels at once each one, so that lines are asked for at
// an even pace and not in bursts; else the first block both.
template <typename Product>
[[gnu::always_inline]] inline void share_fetching(int b, int count, int rows, std::int64_t ahead, ProductBlock& block) {
  const bool shared = count == 2 && rows <= Product::kPairedRows;
  for (int panel = 0; panel < 2; ++panel) {
    block.ahead[panel] = (shared ? panel == b : b == 0) ? ahead : 0;
  }
  block.fetches = shared ? b : -1;
}

// strip = q k^T, not scaled. Columns beyond what a block's rows see are left out by whole panels.
template <typename Product>
void scores(const PageVisit& visit, const RowBlock* blocks, int count, bool fetches) {
  const std::int64_t bytes = panel_bytes<Product>(visit.head_dim);
  for (int column = 0; column < kPagePositions; column += 2 * kPanelLanes) {
    for (int b = 0; b < count; ++b) {
      const RowBlock& rows = blocks[b];
      if (rows.most <= column) {
        continue;
      }
      ProductBlock block{.rows = visit.queries + rows.first * kStripStride,
                         .panel = visit.keys + column / kPanelLanes * bytes,
                         .panel_bytes = bytes,
                         .first = 0,
                         .last = visit.head_dim,
                         .out = visit.strip + rows.first * kStripStride + column,
                         .out_stride = kStripStride,
                         .fresh = true,
                         .ahead = {}};
      const std::int64_t ahead = fetches ? visit.values - visit.keys : 0;
      share_fetching<Product>(b, count, rows.rows, ahead, block);
      if (rows.rows <= Product::kPairedRows) {
        run_block<Product, 2>(rows.rows, block);
        continue;
      }
      run_block<Product, 1>(rows.rows, block);
      if (rows.most > column + kPanelLanes) {
        block.panel += bytes;
        block.ahead[0] = block.ahead[1];
        block.out += kPanelLanes;
        run_block<Product, 1>(rows.rows, block);
      }
    }
  }
}

[[gnu::always_inline]] inline float exp2_of(float x) {
  float lanes_of[kPanelLanes];
  store(lanes_of, exp2(broadcast(x)));
  return lanes_of[0];
}

// Columns of a row in whole lanes; those behind what it sees are -infinity.
inline int close_row(const PageVisit& visit, int r) {
  const int visible = visit.visible[r];
  const int columns = (visible + kPanelLanes - 1) / kPanelLanes * kPanelLanes;
  if (visible < columns) {
    float* last = visit.strip + r * kStripStride + columns - kPanelLanes;
    store(last, select(first_lanes(visible - columns + kPanelLanes), load(last), broadcast(-__builtin_inff())));
  }
  return columns;
}

// The greatest of a row's scores, scaled: the scale is positive, so scaling the greatest is the greatest of the scaled.
// Four maxima at once: one would wait for itself.
[[gnu::always_inline]] inline float highest_score(const float* strip, int columns, float scale) {
  constexpr int kMaxima = 4;
  F32x16 highest[kMaxima];
#pragma GCC unroll 4
  for (int i = 0; i < kMaxima; ++i) {
    highest[i] = broadcast(-__builtin_inff());
  }
  int j = 0;
  for (; j + kMaxima * kPanelLanes <= columns; j += kMaxima * kPanelLanes) {
#pragma GCC unroll 4
    for (int i = 0; i < kMaxima; ++i) {
      highest[i] = max(load(strip + j + i * kPanelLanes), highest[i]);
    }
  }
  for (; j < columns; j += kPanelLanes) {
    highest[0] = max(load(strip + j), highest[0]);
  }
  return maximum(mul(max(max(highest[0], highest[1]), max(highest[2], highest[3])), broadcast(scale)));
}

// Scores of rows become probabilities; m, l and o follow the new maxima. First all maxima, then all factors, then row
// after row: what a row waits for (the lanes of its maximum, its factor) is there when its turn comes.
template <typename Product>
void soften(const PageVisit& visit) {
  constexpr int kRowsMax = (kGroupRows + kPanelLanes - 1) / kPanelLanes * kPanelLanes;
  int columns[kRowsMax];
  float now[kRowsMax], factor[kRowsMax];
  for (int r = 0; r < visit.rows; ++r) {
    columns[r] = close_row(visit, r);
    const float page = highest_score(visit.strip + r * kStripStride, columns[r], visit.scale);
    now[r] = (page > visit.m[r] ? page : visit.m[r]) + 0.0f;  // one zero only
  }
  for (int r = 0; r < visit.rows; r += kPanelLanes) {
    const int n = visit.rows - r < kPanelLanes ? visit.rows - r : kPanelLanes;
    store(factor + r, exp2(sub(load_first(visit.m + r, n), load_first(now + r, n))));
  }
  const F32x16 scale = broadcast(visit.scale);
  const int width = (visit.head_dim + kPanelLanes - 1) / kPanelLanes * kPanelLanes;
  for (int r = 0; r < visit.rows; ++r) {
    if (columns[r] == 0) {
      continue;
    }
    float* strip = visit.strip + r * kStripStride;
    const F32x16 shift = broadcast(now[r]);
    F32x16 sums = zero();
    for (int j = 0; j < columns[r]; j += kPanelLanes) {
      const F32x16 probabilities = exp2(sub(mul(load(strip + j), scale), shift));
      sums = add(sums, probabilities);
      Product::keep(strip, j, probabilities);
    }
    visit.m[r] = now[r];
    visit.l[r] = __builtin_fmaf(visit.l[r], factor[r], sum(sums));
    if (factor[r] != 1.0f) {
      float* o = visit.o + static_cast<std::int64_t>(r) * width;
      for (int d = 0; d < width; d += kPanelLanes) {
        store(o + d, mul(load(o + d), broadcast(factor[r])));
      }
    }
  }
}

// o += strip v: every row walks the columns it sees and no other. Rows of a block walk together as far as all see.
template <typename Product>
void weigh(const PageVisit& visit, const RowBlock* blocks, int count, bool fetches) {
  const std::int64_t bytes = panel_bytes<Product>(kPagePositions);
  const int panels = (visit.head_dim + kPanelLanes - 1) / kPanelLanes;
  const std::int64_t width = static_cast<std::int64_t>(panels) * kPanelLanes;
  for (int panel = 0; panel < panels; panel += 2) {
    const auto walk = [&](int b, int row, int rows, int first, int last) {
      ProductBlock block{.rows = visit.strip + row * kStripStride,
                         .panel = visit.values + panel * bytes,
                         .panel_bytes = bytes,
                         .first = first,
                         .last = last,
                         .out = visit.o + row * width + panel * kPanelLanes,
                         .out_stride = width,
                         .fresh = false,
                         .ahead = {}};
      const std::int64_t ahead = fetches && visit.next_keys != nullptr ? visit.next_keys - visit.values : 0;
      share_fetching<Product>(b, count, rows, ahead, block);
      const bool both = panel + 1 < panels;
      if (both && rows <= Product::kPairedRows) {
        run_block<Product, 2>(rows, block);
        return;
      }
      run_block<Product, 1>(rows, block);
      if (both) {
        block.panel += bytes;
        block.ahead[0] = block.ahead[1];
        block.out += kPanelLanes;
        run_block<Product, 1>(rows, block);
      }
    };
    for (int b = 0; b < count; ++b) {
      const RowBlock& rows = blocks[b];
      const int together = rows.least == rows.most ? rows.most : rows.least / 2 * 2;
      if (together > 0) {
        walk(b, rows.first, rows.rows, 0, together);
      }
      for (int r = rows.first; r < rows.first + rows.rows; ++r) {
        if (visit.visible[r] > together) {
          walk(b, r, 1, together, visit.visible[r]);
        }
      }
    }
  }
}

template <typename Product>
void visit_page(const PageVisit& visit) {
  const std::int64_t width = (visit.head_dim + kPanelLanes - 1) / kPanelLanes * kPanelLanes;
  for (int first = 0; first < visit.rows; first += kGroupRows) {
    PageVisit group = visit;
    group.queries += first * kStripStride;
    group.visible += first;
    group.rows = visit.rows - first < kGroupRows ? visit.rows - first : kGroupRows;
    group.m += first;
    group.l += first;
    group.o += first * width;
    RowBlock blocks[kGroupRows];
    const int count = row_blocks<Product>(group, blocks);
    scores<Product>(group, blocks, count, first == 0);
    soften<Product>(group);
    weigh<Product>(group, blocks, count, first == 0);
  }
}

inline void merge_row(const PartialRow& a, const PartialRow& b, int head_dim) {
  const float m = *a.m > *b.m ? *a.m : *b.m;
  const float factor_a = exp2_of(*a.m - m);
  const float factor_b = exp2_of(*b.m - m);
  *a.m = m;
  *a.l = __builtin_fmaf(*b.l, factor_b, *a.l * factor_a);
  by_lanes(head_dim, [&](int d, const auto& take, const auto& put) {
    put(a.o + d, fma(take(b.o + d), broadcast(factor_b), mul(take(a.o + d), broadcast(factor_a))));
  });
}

inline void finish_row(float l, const float* o, int head_dim, float* out) {
  by_lanes(head_dim, [&](int d, const auto& take, const auto& put) { put(out + d, div(take(o + d), broadcast(l))); });
}

// The table of a body whose bf16 product is `Pairs` and whose fp32 product is `Singles`.
template <typename Pairs, typename Singles>
AttentionBody attention_table() {
  AttentionBody table;
  table.pack_query = [](const float* query, int head_dim, bool bf16, float* packed) {
    bf16 ? Pairs::pack(query, head_dim, packed) : Singles::pack(query, head_dim, packed);
  };
  table.visit_page = [](const PageVisit& visit) { visit.bf16 ? visit_page<Pairs>(visit) : visit_page<Singles>(visit); };
  table.merge_row = merge_row;
  table.finish_row = finish_row;
  return table;
}

}  // namespace ZOETROPE_ISA
}  // namespace zoetrope
