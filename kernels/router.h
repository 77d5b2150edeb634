// Choosing experts and combining what they return (reference 4.6; one-answer rules 3 and 6).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/compute.h"

namespace zoetrope {

// softmax over all experts in fp32, the k largest (ties to the lower index) renormalised to sum 1. Experts of a row
// stand in falling probability. Returns how many rows had a tie across the cut.
std::int64_t choose_experts(const Compute& compute, Rows<const float> logits /* [T, E] */,
                            Rows<std::int32_t> experts /* [T, k] */, Rows<float> weights /* [T, k] */);

// out[t] = sum over chosen experts in ascending index of y_e * w_e.
// `outputs` holds row slot[t, j] for the j-th chosen expert of token t.
void combine_experts(const Compute& compute, Rows<const float> outputs, Rows<const std::int32_t> slots /* [T, k] */,
                     Rows<const std::int32_t> experts, Rows<const float> weights, Rows<float> out /* [T, H] */);

}  // namespace zoetrope
