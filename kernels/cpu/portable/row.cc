// The row family for plain C++.
#include "kernels/cpu/row_kernels.h"

namespace zoetrope {

const RowBody& row_body_portable() { return isa_portable::row_kernels::kBody; }

}  // namespace zoetrope
