// The row family for AVX2.
#include "kernels/cpu/row_kernels.h"

namespace zoetrope {

const RowBody& row_body_avx2() { return isa_avx2::row_kernels::kBody; }

}  // namespace zoetrope
