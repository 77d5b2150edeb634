// Matrix products with packed weights, y = x W^T (+ bias), and the gated pair of a feed-forward block.
// One answer (docs/one-answer.md rules 1, 2, 7): a row of the output is a function of that row of x and of the weights;
// every element is one accumulator walking k upwards inside a slice; slices meet in the binary tree (0,1)(2,3)...
// In bf16 mode k is walked in pairs, odd element first, then even (VDPBF16PS); in fp32 mode one by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/compute.h"
#include "kernels/tensor.h"

namespace zoetrope {

enum class WeightType { kBf16, kF8E4M3 };

// How the columns (outputs) of a packed matrix are laid out in panels of 32.
enum class PanelOrder {
  kPlain,  // panel p holds outputs 32p .. 32p+31
  kGated,  // panel p holds gate outputs 16p .. 16p+15, then up outputs 16p .. 16p+15 (N = 2I: gates first, then ups)
};

// A weight matrix in the layout the kernels read; memory belongs to an arena. Trivially copyable.
// Layout: [slice][panel = N/32][k pair][32][2], N padded to 32 and each slice's K to 2 with zeros. FP8: one byte each,
// groups of 4 columns within a half panel in the order 0 2 1 3.
struct PackedMatrix {
  WeightType type = WeightType::kBf16;
  PanelOrder order = PanelOrder::kPlain;
  std::int64_t n = 0;       // outputs (kGated: 2I)
  std::int64_t k = 0;       // inputs of all slices held here together
  int slices = 1;           // canonical slices held here; k % slices == 0; a power of two
  const std::byte* data = nullptr;    // packed_bytes() bytes, 64-byte aligned
  const float* scales = nullptr;      // FP8: [slice][panel][k block of 128][2 halves of 16 outputs], else null
  std::int64_t input_origin = 0;      // FP8: StoredMatrix::input_origin, from which blocks of k are counted
};

std::size_t packed_bytes(WeightType type, PanelOrder order, std::int64_t n, std::int64_t k, int slices);
std::size_t packed_scales(WeightType type, std::int64_t n, std::int64_t k, int slices);  // floats, 0 for bf16
// Blocks of 128 inputs that one slice may touch, wherever it begins: the third dimension of PackedMatrix::scales.
std::int64_t scale_blocks(std::int64_t slice_inputs);

// Where weights come from, as a checkpoint stores them.
struct StoredMatrix {
  WeightType type = WeightType::kBf16;
  const std::byte* data = nullptr;
  // Element (output, input) is data[output * output_stride + input * input_stride], in elements: a Linear has
  // input_stride 1, the stacked experts (stored [in, out]) have output_stride 1.
  std::int64_t output_stride = 0;
  std::int64_t input_stride = 0;
  // FP8: scale of (output, input) is scales[(output/128) * scale_output_stride + (input/128) * scale_input_stride],
  // indices counted from output_origin and input_origin (where this shard begins in the whole matrix).
  const float* scales = nullptr;
  std::int64_t scale_output_stride = 0;
  std::int64_t scale_input_stride = 0;
  std::int64_t output_origin = 0;
  std::int64_t input_origin = 0;
};

// An FP8 NaN (0x7f, 0xff) stays a NaN in every product. Refused at start-up: FP8 whose block boundary cuts a k pair or
// a half panel of 16 outputs (shards must begin at even inputs and at multiples of 16 outputs). Packs outputs [0, n)
// and inputs [0, k) of `stored` into `data` (and `scales`) and returns the view. kGated: gate outputs are [0, n/2) of
// `stored`, ups [n/2, n) shifted by `up_offset` outputs (up_offset = distance, in outputs of the stored matrix, from
// the first gate to the first up; stored.data points at the first gate).
PackedMatrix pack(const StoredMatrix& stored, PanelOrder order, std::int64_t n, std::int64_t k, int slices,
                  std::int64_t up_offset, std::byte* data, float* scales);
// Two separate matrices (dense gate_proj and up_proj), each [n/2, k].
PackedMatrix pack_gated(const StoredMatrix& gate, const StoredMatrix& up, std::int64_t n, std::int64_t k,
                        std::byte* data, float* scales);

// In bf16 mode what a product reads is rounded to bf16 as it is packed; what it writes stays fp32 unless it is to
// travel.
enum class Rounding {
  kNone,
  kBf16,  // rounded to bf16 in bf16 mode: outputs of experts, which travel home as bf16
};

struct MatmulArgs {
  Rows<const float> x;       // [T, K]
  PackedMatrix w;            // [N, K]
  const float* bias = nullptr;  // [N] or null; added in fp32 before the rounding
  Rows<float> out;           // [T, N]
  Rounding rounding = Rounding::kNone;
};
void matmul(const Compute& compute, const MatmulArgs& args);

// out[t, i] = silu(g) * u, g and u the gate and up products of row t: reference 4.5.
void gated_matmul(const Compute& compute, Rows<const float> x /* [T, K] */, const PackedMatrix& w /* kGated, N = 2I */,
                  Rows<float> out /* [T, I] */);

// One expert's share of a grouped product: rows of x, chosen by index, go in; consecutive rows of out come back.
struct ExpertWeights {
  PackedMatrix gate_up;  // kGated [2I, H]
  PackedMatrix down;     // [H, I], S = 2 canonical slices
};
struct ExpertRows {
  const ExpertWeights* weights = nullptr;
  std::span<const std::int32_t> x_rows;  // rows of x, any order, repeats allowed between experts
  std::int64_t out_first = 0;            // out[out_first + i] = expert(x[x_rows[i]])
};
// Feed-forward of every listed expert: down(silu(gate) * up). Work is one flat list of
// (expert, panel) pieces, so small experts cost no barrier each. `activations` is scratch [sum of rows, I].
void grouped_experts(const Compute& compute, Rows<const float> x /* [T, H] */, std::span<const ExpertRows> experts,
                     Rows<float> activations, Rows<float> out /* [sum of rows, H] */,
                     Rounding rounding = Rounding::kBf16);

}  // namespace zoetrope
