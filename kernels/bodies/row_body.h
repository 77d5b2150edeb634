// Entries of the row family in the table of one body. Same bits from every body.
#pragma once

namespace zoetrope {

struct RowBody {};

const RowBody& row_body_reference();
const RowBody& row_body_portable();
const RowBody& row_body_avx2();
const RowBody& row_body_avx512();


}  // namespace zoetrope
