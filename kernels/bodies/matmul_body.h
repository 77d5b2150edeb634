// Entries of the matmul family in the table of one body. Same bits from every body.
// The unit of work is a panel (32 outputs), or some adjacent ones, times one block of rows, over all of k: matmul.cc
// cuts a product into such jobs and packs the rows of x before; the entries compute and check nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zoetrope {

inline constexpr int kPanelColumns = 32;
inline constexpr int kRowBlock = 256;       // rows of one panel job at most: their packed x stays in the L3 cache
inline constexpr int kScaleBlock = 128;     // FP8: inputs and outputs that share a scale
inline constexpr int kSlicesMax = 8;        // canonical slices of one matrix (docs/one-answer.md rule 2)

// Rows of a block are packed in tiles of at most MatmulBody::tile_rows rows, heights as equal as possible, the higher
// ones first. Tile t begins at row `first`.
struct RowTiles {
  int count, low, extra;  // the first `extra` tiles have low + 1 rows, the others low

  [[gnu::always_inline]] RowTiles(int rows, int tile_rows)
      : count((rows + tile_rows - 1) / tile_rows), low(rows / count), extra(rows % count) {}
  [[gnu::always_inline]] int first(int tile) const { return tile * low + (tile < extra ? tile : extra); }
  [[gnu::always_inline]] int rows(int tile) const { return low + (tile < extra ? 1 : 0); }
};

// k of all slices, each padded to whole pairs.
[[gnu::always_inline]] inline std::int64_t padded_inputs(std::int64_t k, int slices) {
  return slices * ((k / slices + 1) / 2 * 2);
}

// FP8: where in the 64 bytes of a k pair the odd or even element of a column lies. Groups of 8 bytes 1 and 2 of every
// 32 stand exchanged, so that unpacking bytes within halves of an AVX2 register brings columns out in order.
[[gnu::always_inline]] constexpr int fp8_byte(int column, int odd) {
  const int byte = 2 * column + odd;
  const int group = byte / 8 % 4;
  return group == 1 ? byte + 8 : group == 2 ? byte - 8 : byte;
}

// Some rows of x become one packed tile: [k][rows] fp32, or [k pair][rows] words of two bf16 (even element in the lower
// half) where the body multiplies pairs. In bf16 mode values are rounded; an odd slice is padded with a zero.
struct PackTileJob {
  const float* x = nullptr;
  std::int64_t stride = 0;
  const std::int32_t* row_index = nullptr;  // rows of x, or null: consecutive rows from x
  int rows = 0;
  std::int64_t k = 0;
  int slices = 1;
  bool rounds = false;  // bf16 mode
  std::byte* out = nullptr;
};

struct PanelJob {
  const std::byte* x = nullptr;  // the packed tiles of this block, one after the other
  int rows = 0;                  // 1 .. kRowBlock
  int panels = 1;                // panels x rows <= kRowBlock
  int columns = 0;               // outputs of the last panel: plain 1 .. 32; gated 1 .. 16 pairs of gate and up
  bool gated = false;
  bool rounds = false;           // bf16 mode
  bool round_output = false;     // rounding of the sum with the bias (plain only)

  const std::byte* weights = nullptr;    // [panel][k pair][32][2] in slice 0
  std::int64_t weights_stride = 0;       // bytes from slice to slice
  const std::byte* next_weights = nullptr;  // what will probably be read after this job: a hint for prefetching
  std::int64_t slice_inputs = 0;
  int slices = 1;
  bool fp8 = false;
  const float* scales = nullptr;         // FP8: [panel][k block][2] in slice 0
  std::int64_t scales_stride = 0;        // floats from slice to slice
  std::int64_t scales_panel_stride = 0;  // floats from panel to panel
  std::int64_t input_origin = 0;  // FP8: where this matrix begins in the stored one: blocks are counted from there

  const float* bias = nullptr;  // of the first panel's first output, or null
  float* out = nullptr;         // first row, the first panel's first column
  std::int64_t out_stride = 0;
  float* scratch = nullptr;              // kPanelScratchFloats, 64-byte aligned, of this thread
};

// Partials of the levels of the slices' tree that are alive together, and weights of 256 inputs widened.
inline constexpr int kPanelScratchFloats = 4 * kRowBlock * kPanelColumns + 256 * kPanelColumns;

struct MatmulBody {
  int tile_rows = 1;
  bool packs_pairs = false;  // x is packed as pairs of bf16 in bf16 mode
  void (*pack_tile)(const PackTileJob&) = nullptr;
  void (*panel)(const PanelJob&) = nullptr;

  // Ceilings for benchmarks. Multiplies and adds in registers as fast as this body can in the mode, `rounds` times;
  // returns the number of operations (a multiply-and-add counts as 2). Reads `bytes` (a multiple of 1024), in order or
  // in four streams at once; returns a digest, so that nothing is left out.
  double (*multiply_in_registers)(std::int64_t rounds, bool bf16_mode) = nullptr;
  std::uint32_t (*read_memory)(const std::byte* memory, std::int64_t bytes, int streams) = nullptr;

  // Packed x of one job at most, beside kRowBlock: half of a core's own cache where the one behind it is slow.
  std::int64_t block_bytes = std::int64_t{1} << 40;
};

const MatmulBody& matmul_body_reference();
const MatmulBody& matmul_body_portable();
const MatmulBody& matmul_body_avx2();
const MatmulBody& matmul_body_avx512();
const MatmulBody& matmul_body_avx512bf16();

}  // namespace zoetrope
