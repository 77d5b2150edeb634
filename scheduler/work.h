// What steps cost, as far as plans need it: arithmetic on counts, no clock. One unit of work is one row that attends to
// one token of context, in all layers of one member.
#pragma once

#include <algorithm>
#include <cstdint>

namespace zoetrope {

struct WorkModel {
  std::int64_t row = 4096;             // all other arithmetic of a row costs as much as attending to so many tokens
  std::int64_t page_transfer = 16384;  // handing one page of all layers to another member

  // Rows [first, first + rows) of a sequence, each of which attends to itself and all before it.
  std::int64_t of_rows(std::int64_t first, std::int64_t rows) const {
    return rows * (row + first + 1) + rows * (rows - 1) / 2;
  }
};

}  // namespace zoetrope
