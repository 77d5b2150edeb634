// Row-wise additions, activations, gathers and the learned position embedding of the vision tower.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/compute.h"

namespace zoetrope {

// h = h + x: the residual additions.
void add_rows(const Compute& compute, Rows<float> h, Rows<const float> x);

// h[rows[i]] = h[rows[i]] + x[i]: DeepStack injection (reference 4.4). No row twice.
void add_selected_rows(const Compute& compute, Rows<float> h, std::span<const std::int64_t> rows, Rows<const float> x);

// In place. gelu_tanh: vision blocks; gelu_erf: mergers (reference 3.7, 3.8).
void gelu_tanh(const Compute& compute, Rows<float> x);
void gelu_erf(const Compute& compute, Rows<float> x);

// out[i] = table[ids[i]] widened to fp32; ids are inside the table (checked).
void embed(const Compute& compute, Rows<const Bf16> table /* [V, H] */, std::span<const std::int32_t> ids,
           Rows<float> out);

// The interpolated position table of one frame, in merge-block order, reference 3.5:
// out [gh * gw, D] from table [side * side, D].
void interpolate_positions(const Compute& compute, Rows<const Bf16> table, int side, int gh, int gw, Rows<float> out);

}  // namespace zoetrope
