// The elementary functions one number at a time: the specification of kernels/cpu/simd_math.h, bit for bit.
#pragma once

#include "kernels/bodies/row_body.h"

namespace zoetrope::reference {

float exp2(float x);
float exp(float x);
float tanh(float x);
float erf(float x);
float elementary(Elementary function, float x);

}  // namespace zoetrope::reference
