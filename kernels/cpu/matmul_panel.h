// Panels of a matrix product, written once and compiled per instruction set: blocks of k, tiles of rows, the slices'
// tree, and what happens to a finished element. Included by files under cpu/<isa>/ only.
//
// `Tiles` says how an instruction set multiplies:
//   kTileRows                   rows of a tile at most
//   kPairs                      x comes as words of two bf16 in bf16 mode
//   kSliceRows                  where kPairs: so few rows go over all panels of a slice by
//   multiply_slice(p, slice)    one walk
//   vectors(rows)               vectors of 16 outputs that a tile of so many rows has: 1 or 2
//   tile(rows, walk, lines)     the TileFunction
//   widen_fp8(from, pairs, to)  [pairs][32][2] bytes to words of two bf16
//   kStreams, kStreamRows       so few rows go over so many adjacent panels at once, each a stream of weights; 1: never
//   reads_bytes(rows)           tiles of so many rows take kBytesScaled: FP8 is widened in the loop, not before
#pragma once

#include "kernels/bodies/matmul_body.h"
#include "kernels/cpu/matmul_tile.h"
#include "kernels/cpu/simd_math.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// Weights are fetched this far ahead of their use; much nearer is worse than not at all, farther a little worse.
inline constexpr std::int64_t kPrefetchBytes = 8192;
// A walk over several panels without a stop goes farther ahead.
inline constexpr std::int64_t kFarPrefetchBytes = 12288;
// Several streams together want less.
inline constexpr std::int64_t kStreamPrefetchBytes = 2048;
// k of a block. A single pass reads each weight once, and no block is too long for it. Several passes over a block
// leave it in the first cache and fetch the next one together: a few passes do best with the block that is
// kPrefetchBytes long, many with longer ones, for which sums are stored and loaded less often.
inline constexpr std::int64_t kOnePassBlock = 512;
inline constexpr std::int64_t kFewPassesBlock = kPrefetchBytes / 64;
inline constexpr std::int64_t kManyPassesBlock = 256;
inline constexpr std::int64_t kMostPassesBlock = 512;
inline constexpr int kFewPasses = 4;
inline constexpr int kManyPasses = 12;
// From so many passes on, a body that multiplies fp32 widens a block of bf16 weights once, before, in place of once in
// every pass; the widened block stays in the first cache.
inline constexpr int kWideningPasses = 6;
inline constexpr std::int64_t kWidenedBlock = 128;

// Inputs of each of the fewest blocks of at most `most` inputs that n whole pairs are cut into: of one length, but for
// the last.
constexpr std::int64_t even_blocks(std::int64_t n, std::int64_t most) {
  const std::int64_t blocks = (n + most - 1) / most;
  return (n / 2 + blocks - 1) / blocks * 2;
}

// What a whole panel job shares.
template <typename Tiles>
struct Panel {
  const PanelJob& job;
  RowTiles tiles;
  int passes;                 // over the weights of a block
  bool widens;                // bf16 weights become rows of fp32 before they are multiplied
  std::int64_t padded;        // inputs of a slice, whole pairs
  std::int64_t block_inputs;  // k of a block of bf16 weights
  std::int64_t pair_bytes;    // of one pair of k in the weights
  std::int64_t slice_bytes;   // of a panel in one slice
  int panel = 0;              // of the job
  Walk walk;

  [[gnu::always_inline]] explicit Panel(const PanelJob& job_)
      : job(job_),
        tiles(job_.rows, Tiles::kTileRows),
        passes(tiles.count * (2 / Tiles::vectors(tiles.rows(0)))),
        widens(!job_.fp8 && !(Tiles::kPairs && job_.rounds) && passes >= kWideningPasses),
        padded((job_.slice_inputs + 1) / 2 * 2),
        block_inputs(widens        ? kWidenedBlock
                     : passes == 1 ? kOnePassBlock
                     : passes <= kFewPasses
                         ? kFewPassesBlock
                         : even_blocks(padded, passes <= kManyPasses ? kManyPassesBlock : kMostPassesBlock)),
        pair_bytes(job_.fp8 ? 64 : 128),
        slice_bytes(padded / 2 * pair_bytes),
        walk(job_.fp8 ? (!job_.rounds                    ? Walk::kWide
                         : Tiles::reads_bytes(job_.rows) ? Walk::kBytesScaled
                                                         : Walk::kPairsScaled)
                      : (!widens ? (job_.rounds ? Walk::kPairs : Walk::kAscending)
                                 : (job_.rounds ? Walk::kWidePairs : Walk::kWide))) {}

  // Bytes of packed x per row and k.
  [[gnu::always_inline]] std::int64_t x_bytes() const { return Tiles::kPairs && job.rounds ? 2 : 4; }
  [[gnu::always_inline]] float* level(int depth) const {
    return job.scratch + (depth * kRowBlock + panel * job.rows) * 32;
  }
  [[gnu::always_inline]] std::byte* widened() const {
    return reinterpret_cast<std::byte*>(job.scratch + 4 * kRowBlock * 32);
  }
  // Outputs of a whole panel, and of this one.
  [[gnu::always_inline]] int width() const { return job.gated ? 16 : 32; }
  [[gnu::always_inline]] int columns() const { return panel + 1 < job.panels ? width() : job.columns; }
  [[gnu::always_inline]] float* out(int row) const { return job.out + row * job.out_stride + panel * width(); }

  // The end of the block of k that begins at k0: FP8 blocks end where a scale does.
  [[gnu::always_inline]] std::int64_t block_end(int slice, std::int64_t k0) const {
    std::int64_t end = k0 + block_inputs;
    if (job.fp8) {
      const std::int64_t origin = job.input_origin + slice * job.slice_inputs;
      end = ((origin + k0) / kScaleBlock + 1) * kScaleBlock - origin;
    }
    return end < padded ? end : padded;
  }
  [[gnu::always_inline]] const float* block_scales(int slice, std::int64_t k0) const {
    const std::int64_t origin = job.input_origin + slice * job.slice_inputs;
    const std::int64_t block = (origin + k0) / kScaleBlock - origin / kScaleBlock;
    return job.scales + slice * job.scales_stride + panel * job.scales_panel_stride + 2 * block;
  }
  [[gnu::always_inline]] const std::byte* weights(int slice, std::int64_t k0) const {
    return job.weights + slice * job.weights_stride + panel * slice_bytes + k0 / 2 * pair_bytes;
  }
  // What will be read some kPrefetchBytes after the weights at k0: in this slice of this panel or of the next, in the
  // next slice of the first, or in the next job.
  [[gnu::always_inline]] const char* ahead(int slice, std::int64_t k0) const {
    const std::int64_t distance = passes > kFewPasses ? block_inputs * 64 : kPrefetchBytes;
    const std::int64_t at = k0 / 2 * pair_bytes + distance;
    const std::byte* base = weights(slice, 0);
    if (at < slice_bytes || panel + 1 < job.panels) {
      return reinterpret_cast<const char*>(base + at);
    }
    const std::byte* next = slice + 1 < job.slices ? job.weights + (slice + 1) * job.weights_stride : job.next_weights;
    if (next == nullptr) {
      return reinterpret_cast<const char*>(base);
    }
    return reinterpret_cast<const char*>(next + (at - slice_bytes));
  }
};

// [pairs][32] words of two bf16 in `from` become [2 pairs][32] fp32, each times the scale of its half panel.
[[gnu::always_inline]] inline void scale_words(const std::uint32_t* from, std::int64_t pairs, const float* scales,
                                               float* to) {
  const F32x16 scale[2] = {broadcast(scales[0]), broadcast(scales[1])};
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    for (int j = 0; j < 2; ++j) {
      store(to + j * 16, even_elements(from + j * 16) * scale[j]);
      store(to + 32 + j * 16, odd_elements(from + j * 16) * scale[j]);
    }
    from += 32;
    to += 64;
  }
}

// [pairs][32] words of two bf16 in `from` become [2 pairs][32] fp32, of each pair the one first that is multiplied
// first.
template <bool kOddFirst>
[[gnu::always_inline]] inline void widen_words(const std::uint32_t* from, std::int64_t pairs, float* to) {
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    for (int j = 0; j < 2; ++j) {
      store(to + (kOddFirst ? 32 : 0) + j * 16, even_elements(from + j * 16));
      store(to + (kOddFirst ? 0 : 32) + j * 16, odd_elements(from + j * 16));
    }
    from += 32;
    to += 64;
  }
}

// The level of the slices' tree that takes the sums of a slice: as many as there are finished subtrees before it.
[[gnu::always_inline]] inline int level_of(int slice) {
  int level = 0;
  for (; slice > 0; slice /= 2) {
    level += slice % 2;
  }
  return level;
}

// The weights of one block of k in the form that the tiles read.
template <typename Tiles>
[[gnu::always_inline]] inline const std::byte* block_weights(const Panel<Tiles>& p, int slice, std::int64_t k0,
                                                             std::int64_t pairs) {
  const std::byte* stored = p.weights(slice, k0);
  if (p.widens) {
    const std::uint32_t* words = reinterpret_cast<const std::uint32_t*>(stored);
    float* wide = reinterpret_cast<float*>(p.widened());
    p.job.rounds ? widen_words<true>(words, pairs, wide) : widen_words<false>(words, pairs, wide);
    return p.widened();
  }
  if (!p.job.fp8 || p.walk == Walk::kBytesScaled) {
    return stored;
  }
  // Words lie behind the room for kScaleBlock rows of fp32.
  std::byte* wide = p.widened();
  std::byte* words = wide + kScaleBlock * 32 * sizeof(float);
  Tiles::widen_fp8(reinterpret_cast<const std::uint8_t*>(stored), pairs, reinterpret_cast<std::uint32_t*>(words));
  if (p.walk != Walk::kWide) {
    return words;
  }
  scale_words(reinterpret_cast<const std::uint32_t*>(words), pairs, p.block_scales(slice, k0),
              reinterpret_cast<float*>(wide));
  return wide;
}

// Sum, bias, rounding.
template <typename Tiles>
[[gnu::always_inline]] inline void write_plain(const Panel<Tiles>& p, int first, int rows) {
  const PanelJob& job = p.job;
  const int all = p.columns();
  const auto write = [&](const auto& add_bias, const auto& round) {
    for (int row = first; row < first + rows; ++row) {
      const float* from = p.level(0) + row * 32;
      float* to = p.out(row);
      if (all == 32) {
        store(to, round(add_bias(load(from), 0)));
        store(to + 16, round(add_bias(load(from + 16), 16)));
        continue;
      }
      for (int j = 0; j < all; j += 16) {
        const int columns = all - j < 16 ? all - j : 16;
        store_first(to + j, round(add_bias(load(from + j), j)), columns);
      }
    }
  };
  const auto same = [](F32x16 v) { return v; };
  const auto rounded = [](F32x16 v) { return round_bf16(v); };
  if (job.bias == nullptr) {
    const auto none = [](F32x16 v, int) { return v; };
    job.round_output ? write(none, rounded) : write(none, same);
  } else {
    const auto bias = [&](F32x16 v, int j) {
      return v + load_first(job.bias + p.panel * 32 + j, all - j < 16 ? all - j : 16);
    };
    job.round_output ? write(bias, rounded) : write(bias, same);
  }
}

// silu(gate) up
template <typename Tiles>
[[gnu::always_inline]] inline void write_gated(const Panel<Tiles>& p, int first, int rows) {
  for (int row = first; row < first + rows; ++row) {
    F32x16 gate = load(p.level(0) + row * 32);
    F32x16 up = load(p.level(0) + row * 32 + 16);
    store_first(p.out(row), silu(gate) * up, p.columns());
  }
}

// A tile's sums of a slice are complete. Slices meet in the tree (0,1)(2,3)...: the sums of a finished subtree wait on
// a stack, one level for each bit of the slice's number. After the last slice the rows are written out. Tile by tile,
// while the sums are in the first cache and the next tile multiplies meanwhile.
template <typename Tiles>
[[gnu::always_inline]] inline void finish_tile(const Panel<Tiles>& p, int slice, int first, int rows) {
  int depth = level_of(slice);
  for (int waiting = slice; waiting % 2 != 0; waiting /= 2) {
    --depth;
    float* left = p.level(depth) + first * 32;
    const float* right = p.level(depth + 1) + first * 32;
    for (int i = 0; i < rows * 32; i += 16) {
      store(left + i, load(left + i) + load(right + i));
    }
  }
  if (slice + 1 < p.job.slices) {
    return;
  }
  if (p.job.gated) {
    write_gated(p, first, rows);
  } else {
    write_plain(p, first, rows);
  }
}

// Lines of the output that a tile will write are on their way while it multiplies.
template <typename Tiles>
[[gnu::always_inline]] inline void fetch_output(const Panel<Tiles>& p, int first, int rows) {
  for (int row = first; row < first + rows; ++row) {
    const float* out = p.out(row);
    __builtin_prefetch(out, 1);
    if (p.columns() > 16) {
      __builtin_prefetch(out + 16, 1);
    }
  }
}

// Adds one block of k to the sums of all rows, and finishes them where the block ends its slice.
template <typename Tiles>
inline void multiply_block(const Panel<Tiles>& p, int slice, std::int64_t k0, std::int64_t k1) {
  const std::int64_t pairs = (k1 - k0) / 2;
  const std::byte* weights = block_weights(p, slice, k0, pairs);
  const float* scales =
      p.walk == Walk::kPairsScaled || p.walk == Walk::kBytesScaled ? p.block_scales(slice, k0) : nullptr;
  const std::int64_t slice_start = slice * p.padded * p.x_bytes();
  float* sums = p.level(level_of(slice));
  const bool ends_slice = k1 == p.padded;
  const bool ends = ends_slice && slice + 1 == p.job.slices;

  // The passes over this block share the fetching of what comes later.
  const std::int64_t step = p.pair_bytes > p.passes ? p.pair_bytes / p.passes : 1;
  const char* ahead = p.ahead(slice, k0);
  const int lines = step > 64 ? 2 : 1;
  const auto x_of = [&](int tile, std::int64_t k) {
    return p.job.x + p.tiles.first(tile) * p.job.slices * p.padded * p.x_bytes() +
           p.tiles.rows(tile) * (slice_start + k * p.x_bytes());
  };
  for (int tile = 0, pass = 0; tile < p.tiles.count; ++tile) {
    const int rows = p.tiles.rows(tile);
    const int vectors = Tiles::vectors(rows);
    const int first = p.tiles.first(tile);
    const std::byte* x = x_of(tile, k0);
    const std::byte* next_x = tile + 1 < p.tiles.count ? x_of(tile + 1, k0) : x_of(0, k1 % p.padded);
    const TileFunction function = Tiles::tile(rows, p.walk, lines);
    if (ends) {
      fetch_output(p, first, rows);
    }
    for (int j = 0; j < 2; j += vectors, ++pass) {
      function({x, weights + j * 16 * 4, pairs, sums + first * 32 + j * 16, scales + (scales != nullptr ? j : 0),
                k0 == 0, ahead + pairs * p.pair_bytes * pass / p.passes, step, next_x - x});
    }
    if (ends_slice) {
      finish_tile(p, slice, first, rows);
    }
  }
}

// Some rows times adjacent panels in one slice, from the first k to the last.
struct StreamTile {
  const float* x;             // [k][rows]
  const std::byte* weights;   // of the first panel
  std::int64_t stream_bytes;  // of a panel in one slice: from a stream to the next
  const std::byte* next;      // the first of the panels that are read after these
  float* sums;                // [panels][rows][32]
};

// In bf16 mode the odd element of a pair comes first, as in fma_tile.
template <int kRows, int kStreams, bool kOddFirst>
void stream_tile(const StreamTile& tile) {
  const StreamTile t = tile;
  Sums<kRows, 2> sums[kStreams];
#pragma GCC unroll 8
  for (int q = 0; q < kStreams; ++q) {
    sums[q].begin(nullptr, /*zeros=*/true);
  }
  const float* x = t.x;
  const auto walk = [&](std::int64_t from, std::int64_t to, const char* ahead) __attribute__((always_inline)) {
    for (std::int64_t at = from; at < to; at += 128) {
#pragma GCC unroll 8
      for (int q = 0; q < kStreams; ++q) {
        prefetch_lines<2>(ahead + q * t.stream_bytes + at);
        const auto* w = reinterpret_cast<const std::uint32_t*>(t.weights + q * t.stream_bytes + at);
        const F32x16 odd[2] = {odd_elements(w), odd_elements(w + 16)};
        const F32x16 even[2] = {even_elements(w), even_elements(w + 16)};
        sums[q].add_products(x + (kOddFirst ? kRows : 0), kOddFirst ? odd : even);
        sums[q].add_products(x + (kOddFirst ? 0 : kRows), kOddFirst ? even : odd);
      }
      x += 2 * kRows;
    }
  };
  const std::int64_t last = t.stream_bytes > kStreamPrefetchBytes ? t.stream_bytes - kStreamPrefetchBytes : 0;
  walk(0, last, reinterpret_cast<const char*>(t.weights) + kStreamPrefetchBytes);
  walk(last, t.stream_bytes, reinterpret_cast<const char*>(t.next) - last);
#pragma GCC unroll 8
  for (int q = 0; q < kStreams; ++q) {
    sums[q].end(t.sums + q * kRows * 32);
  }
}

// Panels p.panel .. p.panel + kStreams - 1 in one slice.
template <typename Tiles>
inline void multiply_streams(Panel<Tiles>& p, int slice) {
  const PanelJob& job = p.job;
  const std::byte* weights = p.weights(slice, 0);
  const std::byte* next = weights + Tiles::kStreams * p.slice_bytes;
  if (p.panel + 2 * Tiles::kStreams > job.panels) {  // no whole group is left in this slice
    next = slice + 1 < job.slices        ? job.weights + (slice + 1) * job.weights_stride
           : job.next_weights != nullptr ? job.next_weights
                                         : weights;
  }
  const StreamTile tile{reinterpret_cast<const float*>(job.x) + slice * p.padded * job.rows, weights, p.slice_bytes,
                        next, p.level(level_of(slice))};
  const auto of_rows = [&]<int kRows>() {
    job.rounds ? stream_tile<kRows, Tiles::kStreams, true>(tile) : stream_tile<kRows, Tiles::kStreams, false>(tile);
  };
  static_assert(Tiles::kStreamRows == 2);
  job.rows == 1 ? of_rows.template operator()<1>() : of_rows.template operator()<2>();
  for (int i = 0; i < Tiles::kStreams; ++i, ++p.panel) {
    finish_tile(p, slice, 0, job.rows);
  }
}

// Slice by slice: weights of adjacent panels in one slice are one stream.
template <typename Tiles>
void panel_of(const PanelJob& job) {
  Panel<Tiles> p(job);
  for (int slice = 0; slice < job.slices; ++slice) {
    p.panel = 0;
    if constexpr (Tiles::kPairs) {
      if (p.walk == Walk::kPairs && job.rows <= Tiles::kSliceRows) {
        Tiles::multiply_slice(p, slice);
      }
    }
    if constexpr (Tiles::kStreams > 1) {
      while (!job.fp8 && job.rows <= Tiles::kStreamRows && p.panel + Tiles::kStreams <= job.panels) {
        multiply_streams(p, slice);
      }
    }
    for (; p.panel < job.panels; ++p.panel) {
      for (std::int64_t k0 = 0; k0 < p.padded;) {
        const std::int64_t k1 = p.block_end(slice, k0);
        multiply_block(p, slice, k0, k1);
        k0 = k1;
      }
    }
  }
}

// out[i * rows + r] = words[r][i] for i < count. What words[r] holds for r >= rows is not looked at.
template <int kTileRows>
[[gnu::always_inline]] inline void transpose_words(const std::uint32_t (&words)[kTileRows][16], int rows, int count,
                                                   std::uint32_t* out) {
#if defined(__AVX512F__)
  // Sixteen rows to sixteen columns by words, pairs of words, and quarters of 128 bits.
  static_assert(kTileRows <= 16);
  __m512i a[16], b[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    a[r] = r < kTileRows ? _mm512_load_si512(words[r < kTileRows ? r : 0]) : _mm512_setzero_si512();
  }
#pragma GCC unroll 8
  for (int r = 0; r < 16; r += 2) {
    b[r] = _mm512_unpacklo_epi32(a[r], a[r + 1]);
    b[r + 1] = _mm512_unpackhi_epi32(a[r], a[r + 1]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < 16; r += 4) {
    a[r] = _mm512_unpacklo_epi64(b[r], b[r + 2]);
    a[r + 1] = _mm512_unpackhi_epi64(b[r], b[r + 2]);
    a[r + 2] = _mm512_unpacklo_epi64(b[r + 1], b[r + 3]);
    a[r + 3] = _mm512_unpackhi_epi64(b[r + 1], b[r + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {  // quarter q of a[4 g + c] is column 4 q + c of rows 4 g .. 4 g + 3
    const __m512i low_even = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);
    const __m512i low_odd = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
    const __m512i high_even = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
    const __m512i high_odd = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
    b[c] = _mm512_shuffle_i32x4(low_even, high_even, 0x88);
    b[4 + c] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
    b[8 + c] = _mm512_shuffle_i32x4(low_even, high_even, 0xdd);
    b[12 + c] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
  }
  const __mmask16 rows_mask = static_cast<__mmask16>((1U << rows) - 1U);
  if (count == 16) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      _mm512_mask_storeu_epi32(out + i * rows, rows_mask, b[i]);
    }
    return;
  }
  alignas(64) std::uint32_t columns[16][16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    _mm512_store_si512(columns[i], b[i]);
  }
  for (int i = 0; i < count; ++i) {
    _mm512_mask_storeu_epi32(out + i * rows, rows_mask, _mm512_load_si512(columns[i]));
  }
#else
#if defined(__AVX2__)
  // Eight rows to eight columns, twice; a row of the result is at most eight words.
  if constexpr (kTileRows <= 8) {
    alignas(32) static constexpr std::uint32_t kMasks[16] = {~0U, ~0U, ~0U, ~0U, ~0U, ~0U, ~0U, ~0U};
    const __m256i rows_mask = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMasks + 8 - rows));
    for (int half = 0; half < count; half += 8) {
      __m256i a[8], b[8];
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) {
        a[r] = r < kTileRows ? _mm256_load_si256(reinterpret_cast<const __m256i*>(words[r < kTileRows ? r : 0] + half))
                             : _mm256_setzero_si256();
      }
#pragma GCC unroll 4
      for (int r = 0; r < 8; r += 2) {
        b[r] = _mm256_unpacklo_epi32(a[r], a[r + 1]);
        b[r + 1] = _mm256_unpackhi_epi32(a[r], a[r + 1]);
      }
#pragma GCC unroll 2
      for (int r = 0; r < 8; r += 4) {  // a[r + c]: columns c and c + 4 of rows r .. r + 3
        a[r] = _mm256_unpacklo_epi64(b[r], b[r + 2]);
        a[r + 1] = _mm256_unpackhi_epi64(b[r], b[r + 2]);
        a[r + 2] = _mm256_unpacklo_epi64(b[r + 1], b[r + 3]);
        a[r + 3] = _mm256_unpackhi_epi64(b[r + 1], b[r + 3]);
      }
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        b[c] = _mm256_permute2x128_si256(a[c], a[4 + c], 0x20);
        b[4 + c] = _mm256_permute2x128_si256(a[c], a[4 + c], 0x31);
      }
      const int columns = count - half < 8 ? count - half : 8;
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        if (i < columns) {
          _mm256_maskstore_epi32(reinterpret_cast<int*>(out + (half + i) * rows), rows_mask, b[i]);
        }
      }
    }
    return;
  }
#endif
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < count; ++i) {
      out[i * rows + r] = words[r][i];
    }
  }
#endif
}

// Packed x of one tile: out[k][rows].
template <int kTileRows>
[[gnu::always_inline]] inline void pack_fp32(const float* const* rows, const PackTileJob& job, float* out) {
  const std::int64_t inputs = job.k / job.slices;
  for (int slice = 0; slice < job.slices; ++slice) {
    const std::int64_t first = slice * inputs;
    for (std::int64_t k = 0; k < inputs; k += 16) {
      const int count = inputs - k < 16 ? static_cast<int>(inputs - k) : 16;
      alignas(64) std::uint32_t words[kTileRows][16];
      for (int r = 0; r < job.rows; ++r) {
        const F32x16 v = load_first(rows[r] + first + k, count);
        store(reinterpret_cast<float*>(words[r]), job.rounds ? round_bf16(v) : v);
      }
      transpose_words(words, job.rows, count, reinterpret_cast<std::uint32_t*>(out));
      out += count * job.rows;
    }
    if (inputs % 2 != 0) {
      for (int r = 0; r < job.rows; ++r) {
        *out++ = 0.0f;
      }
    }
  }
}

// Packed x of one tile: out[k pair][rows], words of two bf16.
template <int kTileRows>
[[gnu::always_inline]] inline void pack_pairs(const float* const* rows, const PackTileJob& job, std::uint32_t* out) {
  const std::int64_t inputs = job.k / job.slices;
  for (int slice = 0; slice < job.slices; ++slice) {
    const std::int64_t first = slice * inputs;
    for (std::int64_t k = 0; k < inputs; k += 32) {
      const int count = inputs - k < 32 ? static_cast<int>(inputs - k) : 32;
      const int pairs = (count + 1) / 2;
      alignas(64) std::uint32_t words[kTileRows][16];
      for (int r = 0; r < job.rows; ++r) {
        std::uint16_t* halves = reinterpret_cast<std::uint16_t*>(words[r]);
        const float* from = rows[r] + first + k;
        store_bf16(halves, load_first(from, count < 16 ? count : 16));
        store_bf16(halves + 16, count > 16 ? load_first(from + 16, count - 16) : zero());
      }
      transpose_words(words, job.rows, pairs, out);
      out += pairs * job.rows;
    }
  }
}

template <typename Tiles>
void pack_tile_of(const PackTileJob& job) {
  const float* rows[Tiles::kTileRows];
  for (int r = 0; r < job.rows; ++r) {
    const std::int64_t row = job.row_index != nullptr ? job.row_index[r] : r;
    rows[r] = job.x + row * job.stride;
  }
  if (Tiles::kPairs && job.rounds) {
    pack_pairs<Tiles::kTileRows>(rows, job, reinterpret_cast<std::uint32_t*>(job.out));
  } else {
    pack_fp32<Tiles::kTileRows>(rows, job, reinterpret_cast<float*>(job.out));
  }
}

// The TileFunctions of one instruction set that multiplies with fp32 fused multiply-adds.
// kWide: tiles of so many rows and fewer have two vectors, the others one.
template <int kTileRows, int kWide>
struct FmaTable {
  TileFunction at[kTileRows][kWalks][2];

  template <int kRows>
  constexpr void fill() {
    constexpr int kVectors = kRows <= kWide ? 2 : 1;
    fill_lines<kRows, kVectors, 1>();
    fill_lines<kRows, kVectors, 2>();
    if constexpr (kRows > 1) {
      fill<kRows - 1>();
    }
  }
  template <int kRows, int kVectors, int kLines>
  constexpr void fill_lines() {
    TileFunction(&row)[kWalks][2] = at[kRows - 1];
    row[static_cast<int>(Walk::kAscending)][kLines - 1] = fma_tile<kRows, kVectors, Walk::kAscending, kLines>;
    row[static_cast<int>(Walk::kPairs)][kLines - 1] = fma_tile<kRows, kVectors, Walk::kPairs, kLines>;
    row[static_cast<int>(Walk::kPairsScaled)][kLines - 1] = fma_tile<kRows, kVectors, Walk::kPairsScaled, kLines>;
    row[static_cast<int>(Walk::kWide)][kLines - 1] = fma_tile<kRows, kVectors, Walk::kWide, kLines>;
    row[static_cast<int>(Walk::kWidePairs)][kLines - 1] = fma_tile<kRows, kVectors, Walk::kWidePairs, kLines>;
  }
};

template <int kTileRows, int kWide>
constexpr FmaTable<kTileRows, kWide> make_fma_table() {
  FmaTable<kTileRows, kWide> table{};
  table.template fill<kTileRows>();
  return table;
}

}  // namespace ZOETROPE_ISA
}  // namespace zoetrope
