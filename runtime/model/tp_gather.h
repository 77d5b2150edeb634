// What the ranks of a tensor-parallel group put together again beyond parallel/collectives.h: rows that somebody chose,
// columns of a sharded product, and rows for an observer. On a group of one nothing travels and nothing is copied.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "kernels/tensor.h"
#include "parallel/communicator.h"
#include "parallel/layout.h"

namespace zoetrope {

// Rank r of the group has filled blocks[r] of the rows of `all`; every rank ends with all of them. `all` is contiguous.
void gather_row_blocks(Communicator& group, Rows<float> all, std::span<const Range> blocks, std::string_view what);

// The same for blocks of columns. `scratch(rows, columns)` returns memory for as many rows as are asked for.
void gather_column_blocks(Communicator& group, Rows<float> all, std::span<const Range> blocks,
                          const std::function<Rows<float>(std::int64_t rows, std::int64_t columns)>& scratch,
                          std::string_view what);

}  // namespace zoetrope
