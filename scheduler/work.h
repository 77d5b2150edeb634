// What steps cost, as far as plans need it: arithmetic on counts, no clock. One unit of work is one row that attends to
// one token of context, in all layers of one member; what travels is counted in the same units, by the rates of this
// machine and network (runtime/engine/step_cost.h).
#pragma once

#include <cstdint>

namespace zoetrope {

struct WorkModel {
  std::int64_t row = 4096;             // all other arithmetic of a row costs as much as attending to so many tokens
  std::int64_t row_served = 0;         // of it, what members of the ring do for each other wherever the row is: experts
  int servers = 1;                     // these members
  // Times as much a row costs that is alone in its step, as in decoding: attending, with its tile for itself, and the
  // rest, for which all weights are read.
  double lone_row = 1, lone_reading = 1;
  std::int64_t page_transfer = 16384;  // handing one page to another member
  // Between members of a span:
  bool shared = false;            // members see each other's pages
  std::int64_t page_visit = 0;    // a page visits another member
  std::int64_t row_visit = 0;     // a row's queries go to another member, and its partials come home
  std::int64_t exchange = 0;      // a message that says nothing
  std::int64_t round_rows = 256;  // of a member, whose queries go out together

  // Rows [first, first + rows) of a sequence, each of which attends to itself and all before it.
  std::int64_t of_rows(std::int64_t first, std::int64_t rows) const {
    return rows * (row + first + 1) + rows * (rows - 1) / 2;
  }

  // Work of the busiest of so many members until it has computed its part of those rows, in steps of at most
  // `chunk` rows of a member, with what they send each other the cheaper way: pages to rows or rows to pages.
  double of_span(int members, std::int64_t first, std::int64_t rows, std::int64_t chunk) const;
};

}  // namespace zoetrope
