// Entries of the matmul family in the table of one body. Same bits from every body.
#pragma once

namespace zoetrope {

struct MatmulBody {};

}  // namespace zoetrope
