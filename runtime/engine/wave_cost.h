// What the planner knows of the model when it cuts a step in waves.
#pragma once

#include "runtime/model/stages.h"
#include "scheduler/waves.h"

namespace zoetrope {

// In rows without context: the weights of a layer are read for every wave, and a row attends to its context.
inline WaveCost wave_cost(const TextConfig& text) {
  const LayerWork work = layer_work(text);
  return {.fixed = kRowsOfReading * work.weights / work.row, .context = work.context / work.row};
}

}  // namespace zoetrope
