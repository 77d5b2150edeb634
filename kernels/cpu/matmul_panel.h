// One panel of a matrix product, written once and compiled per instruction set: blocks of k, tiles of rows, the slices'
// tree, and what happens to a finished element. Included by files under cpu/<isa>/ only.
//
// `Tiles` says how an instruction set multiplies:
//   kTileRows                   rows of a tile at most
//   kPairs                      x comes as words of two bf16 in bf16 mode
//   vectors(rows)               vectors of 16 outputs that a tile of so many rows has: 1 or 2
//   tile(rows, walk, lines)     the TileFunction
//   widen_fp8(from, pairs, to)  [pairs][32][2] bytes to words of two bf16
//   reads_bytes(rows)           tiles of so many rows take kBytesScaled: FP8 is widened in the loop, not before
#pragma once

#include "kernels/bodies/matmul_body.h"
#include "kernels/cpu/matmul_tile.h"
#include "kernels/cpu/simd_math.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// Weights are fetched this far ahead of their use; much nearer is worse than not at all, farther a little worse.
inline constexpr std::int64_t kPrefetchBytes = 8192;
// k of a block. A single pass reads each weight once, and no block is too long for it. Several passes over a block leave it
// in the first cache and fetch the next one together: a few passes do best with the block that is kPrefetchBytes long,
// many with a longer one, for which sums are stored and loaded less often.
inline constexpr std::int64_t kOnePassBlock = 512;
inline constexpr std::int64_t kFewPassesBlock = kPrefetchBytes / 64;
inline constexpr std::int64_t kManyPassesBlock = 256;
inline constexpr int kFewPasses = 4;

// What a whole panel job shares.
template <typename Tiles>
struct Panel {
  const PanelJob& job;
  RowTiles tiles;
  int passes;                // over the weights of a block
  std::int64_t block_inputs;  // k of a block of bf16 weights
  std::int64_t padded;       // inputs of a slice, whole pairs
  std::int64_t pair_bytes;   // of one pair of k in the weights
  std::int64_t slice_bytes;  // of this panel in one slice
  Walk walk;

  [[gnu::always_inline]] explicit Panel(const PanelJob& job_)
      : job(job_),
        tiles(job_.rows, Tiles::kTileRows),
        passes(tiles.count * (2 / Tiles::vectors(tiles.rows(0)))),
        block_inputs(passes == 1 ? kOnePassBlock : passes <= kFewPasses ? kFewPassesBlock : kManyPassesBlock),
        padded((job_.slice_inputs + 1) / 2 * 2),
        pair_bytes(job_.fp8 ? 64 : 128),
        slice_bytes(padded / 2 * pair_bytes),
        walk(job_.fp8 ? (!job_.rounds ? Walk::kWide : Tiles::reads_bytes(job_.rows) ? Walk::kBytesScaled : Walk::kPairsScaled)
                      : (job_.rounds ? Walk::kPairs : Walk::kAscending)) {}

  // Bytes of packed x per row and k.
  [[gnu::always_inline]] std::int64_t x_bytes() const { return Tiles::kPairs && job.rounds ? 2 : 4; }
  [[gnu::always_inline]] float* level(int depth) const { return job.scratch + depth * kRowBlock * 32; }
  [[gnu::always_inline]] std::byte* widened() const { return reinterpret_cast<std::byte*>(level(4)); }

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
    return job.scales + slice * job.scales_stride + 2 * block;
  }
  [[gnu::always_inline]] const std::byte* weights(int slice, std::int64_t k0) const {
    return job.weights + slice * job.weights_stride + k0 / 2 * pair_bytes;
  }
  // What will be read some kPrefetchBytes after the weights at k0: in this slice, in the next, or in the next panel.
  [[gnu::always_inline]] const char* ahead(int slice, std::int64_t k0) const {
    const std::int64_t distance = passes > kFewPasses ? kManyPassesBlock * 64 : kPrefetchBytes;
    const std::int64_t at = k0 / 2 * pair_bytes + distance;
    const std::byte* base = weights(slice, 0);
    if (at < slice_bytes || (slice + 1 == job.slices && job.next_weights == nullptr)) {
      return reinterpret_cast<const char*>(base + (at < slice_bytes ? at : 0));
    }
    const std::byte* next = slice + 1 < job.slices ? weights(slice + 1, 0) : job.next_weights;
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

// The weights of one block of k in the form that the tiles read.
template <typename Tiles>
[[gnu::always_inline]] inline const std::byte* block_weights(const Panel<Tiles>& p, int slice, std::int64_t k0,
                                                             std::int64_t pairs) {
  const std::byte* stored = p.weights(slice, k0);
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

// Adds one block of k to the sums of all rows.
template <typename Tiles>
inline void multiply_block(const Panel<Tiles>& p, int slice, std::int64_t k0, std::int64_t k1, float* sums) {
  const std::int64_t pairs = (k1 - k0) / 2;
  const std::byte* weights = block_weights(p, slice, k0, pairs);
  const float* scales = p.walk == Walk::kPairsScaled || p.walk == Walk::kBytesScaled ? p.block_scales(slice, k0) : nullptr;
  const std::int64_t slice_start = slice * p.padded * p.x_bytes();

  // The passes over this block share the fetching of what comes later.
  const std::int64_t step = p.pair_bytes > p.passes ? p.pair_bytes / p.passes : 1;
  const char* ahead = p.ahead(slice, k0);
  const int lines = step > 64 ? 2 : 1;
  for (int tile = 0, pass = 0; tile < p.tiles.count; ++tile) {
    const int rows = p.tiles.rows(tile);
    const int vectors = Tiles::vectors(rows);
    const std::int64_t first = p.tiles.first(tile);
    const std::byte* x = p.job.x + first * p.job.slices * p.padded * p.x_bytes() + rows * (slice_start + k0 * p.x_bytes());
    const TileFunction function = Tiles::tile(rows, p.walk, lines);
    for (int j = 0; j < 2; j += vectors, ++pass) {
      function({x, weights + j * 16 * 4, pairs, sums + first * 32 + j * 16, scales + (scales != nullptr ? j : 0), k0 == 0,
                ahead + pairs * p.pair_bytes * pass / p.passes, step});
    }
  }
}

// slices meet in the tree (0,1)(2,3)...: the sums of a finished subtree wait on a stack, one level for each bit.
template <typename Tiles>
inline float* multiply_slices(const Panel<Tiles>& p) {
  int depth = 0;
  for (int slice = 0; slice < p.job.slices; ++slice) {
    for (std::int64_t k0 = 0; k0 < p.padded;) {
      const std::int64_t k1 = p.block_end(slice, k0);
      multiply_block(p, slice, k0, k1, p.level(depth));
      k0 = k1;
    }
    ++depth;
    for (int finished = slice + 1; finished % 2 == 0; finished /= 2) {
      --depth;
      float* left = p.level(depth - 1);
      const float* right = p.level(depth);
      for (int i = 0; i < p.job.rows * 32; i += 16) {
        store(left + i, load(left + i) + load(right + i));
      }
    }
  }
  return p.level(0);
}

// Sum, bias, rounding.
[[gnu::always_inline]] inline void write_plain(const PanelJob& job, const float* sums) {
  for (int j = 0; j < 32 && j < job.columns; j += 16) {
    const int columns = job.columns - j < 16 ? job.columns - j : 16;
    const bool biased = job.bias != nullptr;
    const F32x16 bias = biased ? load_first(job.bias + j, columns) : zero();
    for (int row = 0; row < job.rows; ++row) {
      F32x16 v = load(sums + row * 32 + j);
      if (biased) {
        v = v + bias;
      }
      if (job.round_output) {
        v = round_bf16(v);
      }
      store_first(job.out + row * job.out_stride + j, v, columns);
    }
  }
}

// silu(gate) up
[[gnu::always_inline]] inline void write_gated(const PanelJob& job, const float* sums) {
  for (int row = 0; row < job.rows; ++row) {
    F32x16 gate = load(sums + row * 32);
    F32x16 up = load(sums + row * 32 + 16);
    store_first(job.out + row * job.out_stride, silu(gate) * up, job.columns);
  }
}

template <typename Tiles>
void panel_of(const PanelJob& job) {
  const Panel<Tiles> panel(job);
  const float* sums = multiply_slices(panel);
  if (job.gated) {
    write_gated(job, sums);
  } else {
    write_plain(job, sums);
  }
}

// Packed x of one tile: out[k][rows].
[[gnu::always_inline]] inline void pack_fp32(const float* const* rows, const PackTileJob& job, float* out) {
  const std::int64_t inputs = job.k / job.slices;
  for (int slice = 0; slice < job.slices; ++slice) {
    const std::int64_t first = slice * inputs;
    for (std::int64_t k = 0; k < inputs; k += 16) {
      const int count = inputs - k < 16 ? static_cast<int>(inputs - k) : 16;
      for (int r = 0; r < job.rows; ++r) {
        float values[16];
        F32x16 v = load_first(rows[r] + first + k, count);
        store(values, job.rounds ? round_bf16(v) : v);
        for (int i = 0; i < count; ++i) {
          out[i * job.rows + r] = values[i];
        }
      }
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
[[gnu::always_inline]] inline void pack_pairs(const float* const* rows, const PackTileJob& job, std::uint32_t* out) {
  const std::int64_t inputs = job.k / job.slices;
  for (int slice = 0; slice < job.slices; ++slice) {
    const std::int64_t first = slice * inputs;
    for (std::int64_t k = 0; k < inputs; k += 16) {
      const int count = inputs - k < 16 ? static_cast<int>(inputs - k) : 16;
      for (int r = 0; r < job.rows; ++r) {
        alignas(64) std::uint16_t values[16];
        store_bf16(values, load_first(rows[r] + first + k, count));
        for (int i = 0; i < count; i += 2) {
          out[i / 2 * job.rows + r] = values[i] | static_cast<std::uint32_t>(values[i + 1]) << 16;
        }
      }
      out += (count + 1) / 2 * job.rows;
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
    pack_pairs(rows, job, reinterpret_cast<std::uint32_t*>(job.out));
  } else {
    pack_fp32(rows, job, reinterpret_cast<float*>(job.out));
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
  }
};

template <int kTileRows, int kWide>
constexpr FmaTable<kTileRows, kWide> make_fma_table() {
  FmaTable<kTileRows, kWide> table{};
  table.template fill<kTileRows>();
  return table;
}

}  // inline namespace ZOETROPE_ISA
}  // namespace zoetrope
