// Which rows of a step a rank works on, and how an observer sees them.
#pragma once

#include <string_view>

#include "kernels/tensor.h"
#include "parallel/communicator.h"
#include "parallel/layout.h"
#include "runtime/model/model.h"

namespace zoetrope {

// T rows of the ring member's step; those in `own` are dealt to this rank of its tp group.
struct RowStep {
  std::int64_t rows = 0;
  Range own;

  static RowStep of(std::int64_t rows, const Communicator& tp) {
    return {.rows = rows, .own = dealt(rows, tp.rank(), tp.size())};
  }
};

// Shows the observer all rows of the step, gathered over the tp group from each rank's own ones. Without an observer
// nothing happens; either all ranks of a group have one or none has.
void observe_rows(const Observer& observer, Communicator& tp, const RowStep& step, std::string_view name,
                  Rows<const float> own);
void observe_rows(const Observer& observer, Communicator& tp, const RowStep& step, std::string_view name,
                  Rows<const std::int32_t> own);

}  // namespace zoetrope
