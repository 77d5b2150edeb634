#include "scheduler/work.h"

#include <algorithm>

#include "monitoring/check.h"
#include "parallel/span.h"
#include "scheduler/request.h"

namespace zoetrope {

double WorkModel::of_span(int members, std::int64_t first, std::int64_t rows, std::int64_t chunk) const {
  check(members > 0 && first >= 0 && rows > 0 && chunk > 0, "a span has members and computes rows in steps");
  if (members == 1) {
    return static_cast<double>(of_rows(first, rows));
  }
  const auto number = [](std::int64_t count) { return static_cast<double>(count); };
  const Span span{.members = members, .first_member = 0, .ring = members};
  std::int64_t most = 0;
  for (int slot = 0; slot < members; ++slot) {
    most = std::max(most, span.rows_of(slot, first, first + rows));
  }
  const double own = number(most);
  const double steps = number((rows + members * chunk - 1) / (members * chunk));
  const double others = members - 1;
  const double attention = number(of_rows(first, rows)) - number(rows) * number(row);
  // The steps of a prefill see more pages each: on average those in the middle.
  const double seen = (number(first) + number(rows) * (1 + 1 / steps) / 2) / kPageRows;
  const double by_pages = attention * own / number(rows) + steps * seen * others / members * number(page_visit);
  const double by_queries = attention / members + own * others * number(row_visit);
  return own * number(row - row_served) + number(rows) * number(row_served) + std::min(by_pages, by_queries) +
         steps * (members + 1) * number(exchange);
}

}  // namespace zoetrope
