// Films of the running sequences, by stretches (stretches.h): what is decoded, by which rank, and what is encoded in a
// step.
#include <utility>

#include "scheduler/planner_state.h"
#include "scheduler/stretches.h"

namespace zoetrope {

std::int64_t Planner::State::tokens_of_units(const Running& r, std::size_t first, std::size_t end) {
  std::int64_t tokens = 0;
  for (std::size_t unit = first; unit < end; ++unit) {
    tokens += r.request.units[unit].tokens;
  }
  return tokens;
}

std::int64_t Planner::State::stretch_tokens() const { return limits.stretch_tokens * layout.ranks(); }

std::size_t Planner::State::next_stretch_end(const Running& r) const {
  return stretch_end(r.request.units, r.next_unit, {stretch_tokens(), limits.stretch_units * layout.ranks()});
}

// Names the next stretch of a sequence; deal() settles who gets its units.
void Planner::State::announce(Running& r, std::vector<EncodeUnit>& named) {
  r.announced = next_stretch_end(r);
  r.unit_ranks.resize(r.announced, -1);
  ahead_tokens += tokens_of_units(r, r.next_unit, r.announced);
  for (std::size_t unit = r.next_unit; unit < r.announced; ++unit) {
    named.push_back({r.request.id, static_cast<std::int32_t>(unit), -1});
  }
}

// Deals what was named at once over all ranks, whatever sequences it is of.
void Planner::State::deal(std::vector<EncodeUnit> named, StepPlan& plan) {
  std::vector<UnitSpan> units;
  for (const EncodeUnit& unit : named) {
    units.push_back(find(unit.id)->request.units[static_cast<std::size_t>(unit.unit)]);
  }
  const std::vector<std::int32_t> ranks = dealt_ranks(units, layout.ranks());
  for (std::size_t i = 0; i < named.size(); ++i) {
    named[i].rank = ranks[i];
    find(named[i].id)->unit_ranks[static_cast<std::size_t>(named[i].unit)] = ranks[i];
  }
  plan.ahead.insert(plan.ahead.end(), named.begin(), named.end());
}

// Whole stretches are encoded, beginning with the one whose first token the chunk holds.
void Planner::State::plan_units(Running& r, const Chunk& chunk, StepPlan& plan) {
  while (r.next_unit < r.request.units.size() &&
         r.request.units[r.next_unit].first_token < chunk.first_token + chunk.tokens) {
    if (r.announced <= r.next_unit) {
      announce(r, needed_now);
    }
    ahead_tokens -= tokens_of_units(r, r.next_unit, r.announced);
    for (; r.next_unit < r.announced; ++r.next_unit) {
      plan.encode.push_back({r.request.id, static_cast<std::int32_t>(r.next_unit), -1});
    }
  }
}

// Who decodes and encodes, and what is decoded while this step and those after it compute: in the order of the
// sequences, no more than one stretch together. A sequence that waits for its prefix decodes nothing.
void Planner::State::plan_ranks(StepPlan& plan) {
  deal(std::exchange(needed_now, {}), plan);
  for (EncodeUnit& unit : plan.encode) {
    unit.rank = find(unit.id)->unit_ranks[static_cast<std::size_t>(unit.unit)];
  }
  std::vector<EncodeUnit> next;
  for (Running& r : running) {
    if (!limits.look_ahead || !r.started || r.next_unit >= r.request.units.size() || r.announced > r.next_unit) {
      continue;
    }
    if (ahead_tokens > 0 && ahead_tokens + tokens_of_units(r, r.next_unit, next_stretch_end(r)) > stretch_tokens()) {
      break;
    }
    announce(r, next);
  }
  deal(std::move(next), plan);
}

}  // namespace zoetrope
