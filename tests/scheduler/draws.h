// What the model draws for a plan, the same token everywhere.
#pragma once

#include <cstdint>
#include <vector>

#include "scheduler/planner.h"

namespace zoetrope {

inline std::vector<Drawn> draws(const StepPlan& plan, std::int32_t token = 5) {
  std::vector<Drawn> drawn;
  for (const Chunk& chunk : plan.chunks) {
    if (!chunk.sampled.empty()) {
      drawn.push_back({chunk.id, {token}, false});
    }
  }
  return drawn;
}

}  // namespace zoetrope
