#include "scheduler/work.h"

#include <algorithm>
#include <cmath>

#include "monitoring/check.h"
#include "parallel/span.h"
#include "scheduler/request.h"

namespace zoetrope {

double WorkModel::of_span(int members, std::int64_t first, std::int64_t rows, std::int64_t chunk) const {
  check(members > 0 && first >= 0 && rows > 0 && chunk > 0, "a span has members and computes rows in steps");
  const auto number = [](std::int64_t count) { return static_cast<double>(count); };
  const Span span{.members = members, .first_member = 0, .ring = members};
  std::int64_t most = 0;
  for (int slot = 0; slot < members; ++slot) {
    most = std::max(most, span.rows_of(slot, first, first + rows));
  }
  const double own = number(most), others = members - 1;
  const double steps = number((rows + members * chunk - 1) / (members * chunk));
  const double attention = (number(of_rows(first, rows)) - number(rows) * number(row)) * (rows == 1 ? lone_row : 1);
  const double rest =
      (own * number(row - row_served) + number(rows) * number(row_served) / servers) * (rows == 1 ? lone_reading : 1);
  if (members == 1) {
    return rest + attention;
  }
  // The steps of a prefill see more pages each: on average those in the middle. Pages that members see in place cost
  // them one fence; else each turn is an exchange, as the new rows of K and V are. Partials of queries travel home
  // under the turn behind.
  const double seen = (number(first) + number(rows) * (1 + 1 / steps) / 2) / kPageRows;
  const double fences = steps * (shared ? 1 : members);
  const double visits = shared ? 0 : steps * seen * others / members;
  const double by_pages = attention * own / number(rows) + visits * number(page_visit) + fences * number(exchange);
  const double rounds = steps * std::ceil(own / steps / number(round_rows));
  const double by_queries =
      attention / members + own * others * number(row_visit) + (steps + rounds * (members / 2 + 1)) * number(exchange);
  return rest + std::min(by_pages, by_queries);
}

}  // namespace zoetrope
