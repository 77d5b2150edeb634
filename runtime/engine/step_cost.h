// What the planner knows of the model when it cuts steps, spreads sequences and lets spans grow: one count of the work
// of a layer (runtime/model/stages.h), in the units of its two users.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/attention_walk.h"
#include "parallel/ring_cost.h"
#include "runtime/model/stages.h"
#include "scheduler/waves.h"
#include "scheduler/work.h"

namespace zoetrope {

// In rows without context: the weights of a layer are read for every wave, and a row attends to its context.
inline WaveCost wave_cost(const TextConfig& text) {
  const LayerWork work = layer_work(text);
  return {.fixed = kRowsOfReading * work.weights / work.row, .context = work.context / work.row};
}

// Seconds in which one row attends to one token, with all heads of a rank, in tiles that are full.
inline double seconds_of_context(const RingRates& rates, const RingStep& layer) {
  const int group = layer.heads / layer.kv_heads;
  const double row = group * (rates.row_seconds + rates.page_seconds / std::max(group, kTileRows));
  return layer.kv_heads * row / kPageTokens;
}

// The same where a position has its tiles for itself.
inline double seconds_of_lone_row(const RingRates& rates, const RingStep& layer) {
  const int group = layer.heads / layer.kv_heads;
  return layer.kv_heads * (group * rates.row_seconds + rates.page_seconds) / kPageTokens;
}

// In tokens of context that a row attends to, of one layer as all are alike. `layer`: what a row and a page have in
// bytes, and whether members of its span see each other's pages. A ring of one has no rates and sends nothing.
inline WorkModel work_model(const TextConfig& text, const RingRates& rates, const RingStep& layer) {
  constexpr double kLinkBalance = 256;
  const LayerWork work = layer_work(text);
  const double unit = rates.known() ? seconds_of_context(rates, layer) : 0;
  const auto units_of = [&](double seconds) { return unit > 0 ? std::llround(seconds / unit) : 0; };
  const double page = static_cast<double>(layer.page_bytes);
  const double row = static_cast<double>(layer.query_bytes + layer.partial_bytes);
  const double exposed = (1 - rates.hidden) * rates.byte_seconds;
  return {.row = std::max<std::int64_t>(1, std::llround(work.row / work.context)),
          .row_served = std::llround(work.experts / work.context),
          .servers = std::max(1, layer.span.ring),
          .lone_row = unit > 0 ? std::max(1.0, seconds_of_lone_row(rates, layer) / unit) : 1.0,
          .lone_reading = kRowsOfReading,
          .page_transfer =
              unit > 0 ? units_of(page * rates.byte_seconds) : std::llround(page * kLinkBalance / work.context),
          .shared = layer.shared,
          .page_visit = units_of(page * exposed),
          .row_visit = units_of(rates.partial_seconds + row * exposed),
          .exchange = units_of(rates.message_seconds),
          .round_rows = kRingRoundRows};
}

}  // namespace zoetrope
