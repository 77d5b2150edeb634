// Row normalisations. Each row is computed whole by one thread in one order: 16 lanes by column, lanes by halving.
#pragma once

#include "kernels/compute.h"

namespace zoetrope {

// out = weight * (x * rsqrt(mean(x^2) + eps)): reference 4.2. out may be x.
void rms_norm(const Compute& compute, Rows<const float> x /* [T, H] */, const float* weight /* [H] */, float eps,
              Rows<float> out);

// rms_norm of each head's `head_dim` columns with one shared weight (q_norm, k_norm), in place.
void head_rms_norm(const Compute& compute, Rows<float> x /* [T, heads * head_dim] */, int head_dim, const float* weight,
                   float eps);

// out = (x - mean) / sqrt(var + eps) * weight + bias: reference 3.7. out may be x.
void layer_norm(const Compute& compute, Rows<const float> x, const float* weight, const float* bias, float eps,
                Rows<float> out);

}  // namespace zoetrope
