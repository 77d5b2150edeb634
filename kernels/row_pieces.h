// How row-wise ops are dealt to threads: whole rows, in pieces big enough to be worth handing over.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/compute.h"

namespace zoetrope {

// Elements of a piece: a few microseconds of work. Less than one piece stays with the caller.
inline constexpr std::int64_t kPieceElements = 16384;

// Calls rows_of(first, last) so that every row of [0, rows) is in exactly one call.
template <typename RowsOf>
void over_rows(const Compute& compute, std::int64_t rows, std::int64_t elements_per_row, RowsOf rows_of) {
  const std::int64_t piece_rows =
      std::max<std::int64_t>(1, kPieceElements / std::max<std::int64_t>(1, elements_per_row));
  if (rows <= piece_rows) {
    if (rows > 0) {
      rows_of(std::int64_t{0}, rows);
    }
    return;
  }
  compute.pool->parallel_for(div_ceil(rows, piece_rows), [&](std::int64_t piece, int) {
    rows_of(piece * piece_rows, std::min(rows, (piece + 1) * piece_rows));
  });
}

}  // namespace zoetrope
