// Films of the running sequences, by stretches (stretches.h): what is decoded, by which rank, and what is encoded in a
// step.
#include <algorithm>
#include <utility>

#include "scheduler/planner_state.h"
#include "scheduler/stretches.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kTextRowsMin = 64;
constexpr std::int64_t kRunsOfRank = 2;  // of units between clean starts, for each rank in a stretch

}  // namespace

std::int64_t Planner::State::tokens_of_units(const Running& r, std::size_t first, std::size_t end) {
  std::int64_t tokens = 0;
  for (std::size_t unit = first; unit < end; ++unit) {
    tokens += r.request.units[unit].tokens;
  }
  return tokens;
}

// Tokens of units that are encoded, the plan in the making included, and not computed with it: their features stay in
// memory.
std::int64_t Planner::State::held_tokens(const Running& r) {
  std::int64_t tokens = 0;
  for (std::size_t unit = r.next_unit; unit-- > 0;) {
    const UnitSpan& span = r.request.units[unit];
    if (span.first_token + span.tokens <= r.computed + r.planned) {
      break;
    }
    tokens += span.tokens;
  }
  return tokens;
}

std::int64_t Planner::State::stretch_tokens() const { return limits.stretch_tokens * layout.ranks(); }

std::size_t Planner::State::next_stretch_end(const Running& r) const {
  const std::int64_t units = limits.stretch_units * layout.ranks();
  return stretch_end(r.request.units, r.announced(),
                     {.tokens = stretch_tokens(),
                      .units = units,
                      .runs = kRunsOfRank * layout.ranks(),
                      .units_long = kLongStretch * units});
}

// Names the next stretch of a sequence; deal() settles who gets its units.
void Planner::State::announce(Running& r, std::vector<EncodeUnit>& named) {
  const std::size_t first = r.announced(), end = next_stretch_end(r);
  r.stretch_ends.push_back(end);
  r.unit_ranks.resize(end, -1);
  ahead_tokens += tokens_of_units(r, first, end);
  for (std::size_t unit = first; unit < end; ++unit) {
    named.push_back({r.request.id, static_cast<std::int32_t>(unit), -1});
  }
}

// Deals what was named at once over all ranks, whatever sequences it is of. Units that are fewer than ranks, as of
// large frames, go to ranks in turn: the tower is much more work than the frames between that a rank decodes for it,
// and always the same ranks would have them.
void Planner::State::deal(std::vector<EncodeUnit> named, StepPlan& plan) {
  std::vector<UnitSpan> units;
  for (const EncodeUnit& unit : named) {
    units.push_back(find(unit.id)->request.units[static_cast<std::size_t>(unit.unit)]);
  }
  std::vector<std::int32_t> ranks(units.size());
  if (units.size() < static_cast<std::size_t>(layout.ranks())) {
    std::ranges::generate(ranks, [&] { return std::exchange(turn_rank, (turn_rank + 1) % layout.ranks()); });
  } else {
    ranks = dealt_ranks(units, layout.ranks());
  }
  for (std::size_t i = 0; i < named.size(); ++i) {
    named[i].rank = ranks[i];
    find(named[i].id)->unit_ranks[static_cast<std::size_t>(named[i].unit)] = ranks[i];
  }
  plan.ahead.insert(plan.ahead.end(), named.begin(), named.end());
}

// Of `wanted` rows of a prefill, those before the first stretch whose frames are not there. A few rows of text read all
// weights for little: they wait for the frames behind them. Those whose features are there do not: others wait for that
// memory.
std::int64_t Planner::State::rows_with_frames(const Running& r, std::int64_t wanted) const {
  if (!limits.look_ahead) {
    return wanted;  // stretches are decoded in the step that encodes them
  }
  std::size_t first = r.next_unit;
  for (const std::size_t end : r.stretch_ends) {
    if (end > r.ready_units) {
      break;
    }
    first = end;
  }
  if (first == r.request.units.size()) {
    return wanted;
  }
  const std::int64_t rows = std::max<std::int64_t>(0, r.request.units[first].first_token - r.computed);
  const bool waits = first == r.next_unit && rows < kTextRowsMin && held_tokens(r) == 0;
  return rows >= wanted ? wanted : waits ? 0 : rows;
}

// Whole stretches are encoded, beginning with the one whose first token the chunk holds.
void Planner::State::plan_units(Running& r, const Chunk& chunk, StepPlan& plan) {
  while (r.next_unit < r.request.units.size() &&
         r.request.units[r.next_unit].first_token < chunk.first_token + chunk.tokens) {
    if (r.stretch_ends.empty()) {
      announce(r, needed_now);
    }
    const std::size_t end = r.stretch_ends.front();
    r.stretch_ends.pop_front();
    ahead_tokens -= tokens_of_units(r, r.next_unit, end);
    for (; r.next_unit < end; ++r.next_unit) {
      plan.encode.push_back({r.request.id, static_cast<std::int32_t>(r.next_unit), -1});
    }
  }
}

// Who decodes and encodes, and what is decoded while this step and those after it compute: first a stretch of each
// sequence that has none, those first that were named least recently, so that no film waits for the end of another;
// then more of each in their order, so that decoders that are done with one go on with the next. No more than two whole
// stretches have tokens together, and three with what is encoded and not computed yet, unless nothing at all can be
// computed until one more is there; of a film that decodes and holds alone one is always named, however large its
// units. A sequence that waits for its prefix decodes nothing.
void Planner::State::plan_ranks(StepPlan& plan) {
  deal(std::exchange(needed_now, {}), plan);
  for (EncodeUnit& unit : plan.encode) {
    unit.rank = find(unit.id)->unit_ranks[static_cast<std::size_t>(unit.unit)];
  }
  if (!limits.look_ahead) {
    return;
  }
  std::vector<EncodeUnit> named;
  const auto name = [&](Running& r) {
    r.named_in = plan.step;
    announce(r, named);
  };
  const auto goes_on = [](const Running& r) { return r.started && r.announced() < r.request.units.size(); };
  std::int64_t held = 0;
  for (const Running& r : running) {
    held += held_tokens(r);
  }
  const auto fits = [&](const Running& r) {
    const std::int64_t then = ahead_tokens + tokens_of_units(r, r.announced(), next_stretch_end(r));
    const bool alone = ahead_tokens == 0 && held == held_tokens(r);  // however large its units are
    return alone || (then <= 2 * stretch_tokens() && then + held <= 3 * stretch_tokens());
  };
  std::vector<Running*> without;
  for (Running& r : running) {
    if (goes_on(r) && r.stretch_ends.empty()) {
      without.push_back(&r);
    }
  }
  std::ranges::stable_sort(without, {}, &Running::named_in);
  const auto denied = std::ranges::find_if(without, [&](Running* r) {
    if (!fits(*r)) {
      return true;
    }
    name(*r);
    return false;
  });
  if (denied != without.end()) {
    // Those who have frames may wait for pages of those who have none.
    const bool all_there =
        std::ranges::all_of(running, [](const Running& r) { return r.ready_units >= r.announced(); });
    if (plan.chunks.empty() && named.empty() && all_there) {
      name(**denied);
    }
    deal(named, plan);
    return;
  }
  do {
    deal(std::exchange(named, {}), plan);
    for (Running& r : running) {
      if (!goes_on(r)) {
        continue;
      }
      if (!fits(r)) {
        break;
      }
      name(r);
    }
  } while (!named.empty());
}

void Planner::State::note_frames(const std::vector<PendingFrames>& pending) {
  for (Running& r : running) {
    r.ready_units = r.announced();
  }
  for (const PendingFrames& frames : pending) {
    if (Running* r = find(frames.id)) {
      r->ready_units = std::min(r->ready_units, static_cast<std::size_t>(frames.unit));
    }
  }
}

}  // namespace zoetrope
