// What the planner knows of the model when it cuts steps, spreads sequences and lets spans grow: one count of the work
// of a layer (runtime/model/stages.h), in the units of its two users.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention.h"
#include "runtime/model/stages.h"
#include "scheduler/waves.h"
#include "scheduler/work.h"

namespace zoetrope {

// In rows without context: the weights of a layer are read for every wave, and a row attends to its context.
inline WaveCost wave_cost(const TextConfig& text) {
  const LayerWork work = layer_work(text);
  return {.fixed = kRowsOfReading * work.weights / work.row, .context = work.context / work.row};
}

// In tokens of context that a row attends to. A byte of a page that is handed over takes as long as kLinkBalance
// multiply-adds.
inline WorkModel work_model(const TextConfig& text, const KvLayout& layout) {
  constexpr double kLinkBalance = 256;
  const LayerWork work = layer_work(text);
  return {.row = std::max<std::int64_t>(1, static_cast<std::int64_t>(work.row / work.context)),
          .page_transfer =
              static_cast<std::int64_t>(static_cast<double>(layout.page_bytes()) * kLinkBalance / work.context)};
}

}  // namespace zoetrope
