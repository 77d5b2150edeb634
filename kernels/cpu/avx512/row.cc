// The row family for AVX-512.
#include "kernels/cpu/row_kernels.h"

namespace zoetrope {

const RowBody& row_body_avx512() { return isa_avx512::row_kernels::kBody; }

}  // namespace zoetrope
