#include "tests/kernels/simd_lanes.h"

namespace zoetrope {

Probe simd_probe_avx2() { return isa_avx2::simd_probe::probe; }

}  // namespace zoetrope
