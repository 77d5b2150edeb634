#include "runtime/model/row_step.h"

#include <algorithm>
#include <vector>

#include "monitoring/check.h"
#include "parallel/collectives.h"

namespace zoetrope {
namespace {

template <typename T>
void gather_and_show(const Observer& observer, Communicator& tp, const RowStep& step, std::string_view name,
                     Rows<const T> own) {
  if (!observer) {
    return;
  }
  check_eq(own.rows, step.own.count(), "observed rows are those of this rank");
  std::vector<float> memory(static_cast<std::size_t>(step.rows * own.columns));
  const Rows<float> all{memory.data(), step.rows, own.columns};
  for (std::int64_t row = 0; row < own.rows; ++row) {
    std::transform(own.row(row), own.row(row) + own.columns, all.row(step.own.first + row),
                   [](T value) { return static_cast<float>(value); });
  }
  all_gather_rows(tp, all, /*as_bf16=*/false, name);
  observer(name, all);
}

}  // namespace

void observe_rows(const Observer& observer, Communicator& tp, const RowStep& step, std::string_view name,
                  Rows<const float> own) {
  gather_and_show(observer, tp, step, name, own);
}

void observe_rows(const Observer& observer, Communicator& tp, const RowStep& step, std::string_view name,
                  Rows<const std::int32_t> own) {
  gather_and_show(observer, tp, step, name, own);
}

}  // namespace zoetrope
