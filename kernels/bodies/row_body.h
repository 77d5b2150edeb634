// Entries of the row family in the table of one body. Same bits from every body.
#pragma once

namespace zoetrope {

struct RowBody {};

}  // namespace zoetrope
