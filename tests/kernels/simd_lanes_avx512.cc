#include "tests/kernels/simd_lanes.h"

namespace zoetrope {

Probe simd_probe_avx512() { return isa_avx512::simd_probe::probe; }

}  // namespace zoetrope
