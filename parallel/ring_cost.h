// Which pass is quicker for a step of a sequence that spans members, from rates that were measured at start. Pure:
// every member that knows the same figures decides alike.
#pragma once

#include <cstdint>

#include "parallel/span.h"

namespace zoetrope {

// Rows of a member that visit the others together: bounds the memory of partials, and enough to keep tiles full.
inline constexpr std::int64_t kRingRoundRows = 256;

// Measured at start and told by the leader to all (ring_rates.h). All for one layer's heads of one rank.
struct RingRates {
  double page_seconds = 0;      // a page of one KV head meets a tile of query rows: what does not depend on the rows
  double row_seconds = 0;       // ... and for each query row in the tile
  double partial_seconds = 0;   // a query row's partial is kept and merged, for all heads of the rank
  double message_seconds = 0;   // an exchange between two members that says nothing
  double byte_seconds = 0;      // ... and for each byte, both ways at once
  double hidden = 0;            // share of the bytes' time that passes under arithmetic, 0 .. 1

  bool known() const { return page_seconds > 0; }
};

// One layer of one step of one sequence.
struct RingStep {
  Span span;
  std::int64_t first_token = 0, tokens = 0;
  int heads = 0, kv_heads = 0;       // of a rank
  std::int64_t page_bytes = 0;       // of a layer
  std::int64_t query_bytes = 0;      // of a row out
  std::int64_t partial_bytes = 0;    // of a row home
  bool shared = false;               // pages visit by pointer
};

// Seconds until the last member is done: the schedule of ring_attention.h walked turn by turn, with messages travelling
// while the turn before is computed, as far as `hidden` says.
double seconds_by_pages(const RingRates& rates, const RingStep& step);
double seconds_by_queries(const RingRates& rates, const RingStep& step);

}  // namespace zoetrope
