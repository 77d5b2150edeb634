#include "tests/kernels/simd_lanes.h"

namespace zoetrope {

Probe simd_probe_portable() { return isa_portable::simd_probe::probe; }

}  // namespace zoetrope
