#include "scheduler/planner.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <utility>

#include "monitoring/check.h"
#include "scheduler/planner_state.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kPartBehind = 4;  // of a step's room, one part is for prefills behind the first

StepRoom without_part_behind(StepRoom room) {
  std::ranges::for_each(room.rows, [](std::int64_t& rows) { rows -= rows / kPartBehind; });
  std::ranges::for_each(room.work, [](std::int64_t& work) { work -= work / kPartBehind; });
  return room;
}

}  // namespace

StepRoom& StepRoom::operator+=(const StepRoom& other) {
  std::ranges::transform(rows, other.rows, rows.begin(), std::plus<>());
  std::ranges::transform(work, other.work, work.begin(), std::plus<>());
  return *this;
}

StepRoom& StepRoom::operator-=(const StepRoom& other) {
  std::ranges::transform(rows, other.rows, rows.begin(), std::minus<>());
  std::ranges::transform(work, other.work, work.begin(), std::minus<>());
  return *this;
}

Running* Planner::State::find(RequestId id) {
  const auto at = std::find_if(running.begin(), running.end(), [&](const Running& r) { return r.request.id == id; });
  return at == running.end() ? nullptr : &*at;
}

// Where a sequence decodes, its next token waits for the whole step: the prefills beside it get no more work than whole
// chunks at full_chunk_context tokens of context would be.
StepRoom Planner::State::room_of_step() const {
  const auto members = static_cast<std::size_t>(layout.ring);
  const bool decodes = std::any_of(running.begin(), running.end(), [](const Running& r) { return r.decoding(); });
  const std::int64_t rows = limits.chunk_tokens_max * limits.waves_max;
  const std::int64_t work = rows * (limits.work.row + limits.full_chunk_context);
  return {.rows = std::vector<std::int64_t>(members, rows),
          .work = std::vector<std::int64_t>(members, decodes ? work : std::numeric_limits<std::int64_t>::max())};
}

// Takes the rows [first, first + rows) of a sequence from the rows that its members have in this step: those of
// sequences that decode, whose work is not what the others' is bounded for.
void Planner::State::spend_rows(const Span& span, std::int64_t first, std::int64_t rows, StepRoom& room) {
  for (int slot = 0; slot < span.members; ++slot) {
    std::int64_t& left = room.rows[static_cast<std::size_t>(span.member_at(slot))];
    left -= span.rows_of(slot, first, first + rows);
    check(left >= 0, "rows do not fit in a step");
  }
}

// Takes rows of a prefill and their work.
void Planner::State::spend(const Span& span, std::int64_t first, std::int64_t rows, StepRoom& room) const {
  spend_rows(span, first, rows, room);
  const std::int64_t work = limits.work.of_rows(first, rows);
  for (int slot = 0; slot < span.members; ++slot) {
    room.work[static_cast<std::size_t>(span.member_at(slot))] -= work / rows * span.rows_of(slot, first, first + rows);
  }
}

// The most rows from `first`, at most `wanted`, for which every member of the span has room. One row is never too much
// work: a prefill goes on, if slowly.
std::int64_t Planner::State::rows_with_room(const Span& span, std::int64_t first, std::int64_t wanted,
                                            const StepRoom& room) const {
  const auto fits = [&](std::int64_t rows) {
    const std::int64_t work = limits.work.of_rows(first, rows);
    for (int slot = 0; slot < span.members; ++slot) {
      const auto member = static_cast<std::size_t>(span.member_at(slot));
      const std::int64_t own = span.rows_of(slot, first, first + rows);
      if (own > room.rows[member] || (rows > 1 && work / rows * own > room.work[member])) {
        return false;
      }
    }
    return true;
  };
  std::int64_t least = 0, beyond = wanted + 1;  // fits(least), not fits(beyond)
  while (beyond - least > 1) {
    const std::int64_t middle = least + (beyond - least) / 2;
    (fits(middle) ? least : beyond) = middle;
  }
  return least;
}

// Rows of a prefill for one step: all that is left, or as many as waves of its cost can take.
std::int64_t Planner::State::rows_wanted(const Running& r) const {
  const std::int64_t left = r.request.prompt_tokens - r.computed;
  if (limits.waves_max == 1) {
    return left;
  }
  const std::int64_t rows = limits.chunk_tokens_max * r.span.members;  // of a full wave
  return std::min(left, rows_within(limits.wave_cost, r.computed,
                                    limits.waves_max * rows_cost(limits.wave_cost, r.computed, rows)));
}

void Planner::State::cut_chunks(StepPlan& plan) const {
  if (limits.waves_max == 1) {
    return;  // every chunk is in wave 0
  }
  const Pipeline pipeline{.stages = layout.pp,
                          .waves_max = limits.waves_max,
                          .rows_max = limits.chunk_tokens_max,
                          .cost = limits.wave_cost};
  plan.chunks = cut_in_waves(std::move(plan.chunks), pipeline, layout.ring, [this](RequestId id) -> const Span& {
    return std::find_if(running.begin(), running.end(), [id](const Running& r) { return r.request.id == id; })->span;
  });
}

void Planner::State::plan_chunk(Running& r, std::int64_t rows, StepPlan& plan) {
  Chunk chunk;
  chunk.id = r.request.id;
  chunk.first_token = r.computed;
  chunk.tokens = rows;
  if (r.decoding()) {
    chunk.drawn_tokens = r.uncomputed;
  } else {
    plan_units(r, chunk, plan);
  }
  if (r.computed + rows >= r.request.prompt_tokens) {
    chunk.sampled.push_back(r.computed + rows - 1);
  }
  take_pages(r, chunk.first_token + chunk.tokens, chunk.new_pages);
  r.planned = rows;
  r.sampled = chunk.sampled.size();
  plan.chunks.push_back(std::move(chunk));
}

// As many rows of a prefill as `room` has, its span grown where that pays or where pages ask for it.
void Planner::State::plan_prefill(Running& r, StepRoom& room, StepPlan& plan) {
  if (growth_pays(r)) {
    grow_for_work(r, plan);
  }
  std::int64_t rows = 0;
  for (int members = 0; members != r.span.members;) {  // again where the span had to grow for the rows
    members = r.span.members;
    rows = rows_with_room(r.span, r.computed, rows_with_frames(r, rows_wanted(r)), room);
    rows = rows_with_pages(r, rows, plan);
  }
  if (rows > 0) {
    spend(r.span, r.computed, rows, room);
    plan_chunk(r, rows, plan);
  }
}

// Prefills go in arrival order, but for one thing: those that are the first on one of their members leave a part of the
// room to those behind them, who take it with the fewest rows left first. So a short question does not wait for the end
// of a film of a million tokens, and the film gives up no more than that part; as the first always go on, everyone
// becomes one of them.
void Planner::State::plan_prefills(const StepRoom& room, StepPlan& plan) {
  std::vector<Running*> first, behind;
  std::vector<char> has_first(pools.size(), 0);
  for (Running& r : running) {
    if (!r.started || r.decoding()) {
      continue;
    }
    if (rows_with_frames(r, rows_wanted(r)) == 0) {
      plan.frames = FramesWanted::kSoon;
      continue;
    }
    bool is_first = false;
    for (int slot = 0; slot < r.span.members; ++slot) {
      is_first = std::exchange(has_first[static_cast<std::size_t>(r.span.member_at(slot))], 1) == 0 || is_first;
    }
    (is_first ? first : behind).push_back(&r);
  }
  StepRoom left = room;
  std::vector<StepRoom> held;  // by each of the first
  for (const Running* r : first) {
    const std::int64_t rows =
        rows_with_room(r->span, r->computed, rows_with_frames(*r, rows_wanted(*r)), without_part_behind(left));
    held.push_back(left);
    if (rows > 0) {
      spend(r->span, r->computed, rows, left);
    }
    held.back() -= left;
  }
  std::ranges::stable_sort(behind, {}, [](const Running* r) { return r->request.prompt_tokens - r->computed; });
  for (Running* r : behind) {
    plan_prefill(*r, left, plan);
  }
  for (std::size_t i = 0; i < first.size(); ++i) {
    left += held[i];  // those that come after it keep their own: one may be the first here and behind it there
    plan_prefill(*first[i], left, plan);
  }
}

void Planner::State::remove(Running& r, FinishReason reason) {
  std::erase_if(truncations, [&](const Truncation& truncation) { return truncation.id == r.request.id; });
  if (r.failed) {
    for (const PrefixCache::NodeId node : r.first_nodes) {
      cache.drop(node);
    }
  } else if (!r.cancelled) {
    keep_computed(r, /*at_end=*/true);
    cache.touch(r.node);
  }
  let_go(r);
  ahead_tokens -= tokens_of_units(r, r.next_unit, r.announced());
  if (r.started) {
    releases.push_back(r.request.id);
  }
  finished.push_back({r.request.id, reason});
  running.erase(running.begin() + (&r - running.data()));
}

Planner::Planner(Layout layout, SchedulerLimits limits) {
  check(limits.pages_per_member > 0 && limits.context_tokens_max > 0, "a planner needs pages and a context");
  check(limits.chunk_tokens_max > limits.sequences_max && limits.sequences_max > 0,
        "a step must have room for every decoding row and at least one row of a prompt");
  check(limits.span_members >= 0 && limits.span_members <= std::min(layout.ring, kSpanMembersMax) &&
            (limits.span_members & (limits.span_members - 1)) == 0 && limits.span_pages > 0,
        "a span is a power of two of the ring's members");
  check(limits.stretch_tokens > 0 && limits.stretch_units > 0, "a stretch has room for a unit");
  check(limits.waves_max >= 1 && (layout.pp > 1 || limits.waves_max == 1), "a step is cut in waves for stages");
  check(limits.full_chunk_context >= 0 && limits.work.row > 0 && limits.work.row_served <= limits.work.row &&
            limits.work.servers > 0,
        "work is counted in rows and their context");
  check(limits.hosts.empty() || limits.hosts.size() == static_cast<std::size_t>(layout.ring),
        "every member of the ring has a host");
  state_ = std::make_unique<State>(layout, limits);
}

Planner::~Planner() = default;

void Planner::submit(const Request& request) {
  check(!refusal(request).has_value(), "a request that can never run was submitted");
  state_->waiting.push_back(request);
}

void Planner::cancel(RequestId id) {
  State& s = *state_;
  const auto at = std::find_if(s.waiting.begin(), s.waiting.end(), [&](const Request& r) { return r.id == id; });
  if (at != s.waiting.end()) {
    s.waiting.erase(at);
    s.finished.push_back({id, FinishReason::kAborted});
  } else if (Running* r = s.find(id)) {
    r->cancelled = true;
  }
}

void Planner::fail(RequestId id) {
  if (Running* r = state_->find(id)) {
    r->failed = true;
  }
  cancel(id);
}

bool Planner::idle() const {
  return state_->waiting.empty() && state_->running.empty() && state_->releases.empty() && state_->finished.empty();
}

std::size_t Planner::waiting() const { return state_->waiting.size(); }
std::size_t Planner::running() const { return state_->running.size(); }

std::vector<std::int32_t> Planner::pages_kept() const {
  std::vector<std::int32_t> pages;
  std::ranges::transform(state_->pools, std::back_inserter(pages), &PagePool::reclaimable_pages);
  return pages;
}

std::vector<std::int32_t> Planner::pages_in_use() const {
  std::vector<std::int32_t> pages;
  for (const PagePool& pool : state_->pools) {
    pages.push_back(pool.capacity() - pool.available_pages());
  }
  return pages;
}

StepPlan Planner::plan() {
  State& s = *state_;
  check(!s.outstanding, "a plan was asked for before the last one was committed");
  s.outstanding = true;
  for (std::size_t i = s.running.size(); i-- > 0;) {
    if (s.running[i].cancelled) {
      s.remove(s.running[i], FinishReason::kAborted);
    }
  }
  StepPlan plan;
  plan.step = s.next_step++;
  plan.truncations = std::exchange(s.truncations, {});
  plan.releases = std::exchange(s.releases, {});
  s.start_waiting(plan);
  if (!std::exchange(s.stalled, false)) {
    s.admit(plan);
  }
  StepRoom room = s.room_of_step();
  for (Running& r : s.running) {
    if (r.decoding()) {
      const auto rows = static_cast<std::int64_t>(r.uncomputed.size());
      check(rows >= 1, "a decoding sequence has a row");
      if (s.rows_with_pages(r, rows, plan) < rows) {
        continue;
      }
      s.spend_rows(r.span, r.computed, rows, room);
      s.plan_chunk(r, rows, plan);
    }
  }
  s.plan_prefills(room, plan);
  if (plan.frames == FramesWanted::kSoon && plan.chunks.empty()) {
    plan.frames = FramesWanted::kNow;
  }
  s.plan_ranks(plan);
  s.cut_chunks(plan);
  return plan;
}

std::vector<Finished> Planner::commit(const std::vector<Drawn>& drawn, const std::vector<PendingFrames>& pending) {
  State& s = *state_;
  check(s.outstanding, "a commit without a plan");
  s.outstanding = false;
  std::ranges::for_each(s.pools, &PagePool::settle);
  s.note_frames(pending);
  std::map<RequestId, const Drawn*> by_id;
  for (const Drawn& d : drawn) {
    by_id[d.id] = &d;
  }
  for (std::size_t i = s.running.size(); i-- > 0;) {
    Running& r = s.running[i];
    if (r.planned == 0) {
      continue;
    }
    r.computed += std::exchange(r.planned, 0);
    if (!r.cancelled) {
      s.keep_computed(r, /*at_end=*/false);
    }
    r.answer.insert(r.answer.end(), r.uncomputed.begin(), r.uncomputed.end());
    if (std::exchange(r.sampled, 0) == 0) {
      continue;
    }
    const auto at = by_id.find(r.request.id);
    check(at != by_id.end() && !at->second->tokens.empty(), "a sampled sequence came back without a token");
    const Drawn& d = *at->second;
    r.generated += static_cast<std::int64_t>(d.tokens.size());
    r.uncomputed = {d.tokens.back()};
    if (r.cancelled) {
      s.remove(r, FinishReason::kAborted);
    } else if (d.ended) {
      s.remove(r, FinishReason::kStop);
    } else if (r.generated >= r.request.new_tokens_max) {
      s.remove(r, FinishReason::kLength);
    }
  }
  return std::exchange(s.finished, {});
}

void Planner::truncate(RequestId id, std::int64_t tokens, std::int32_t next_token) {
  State& s = *state_;
  Running* r = s.find(id);
  check(r != nullptr && !s.outstanding, "only a running sequence between two steps can be truncated");
  check(tokens >= r->request.prompt_tokens && tokens <= r->computed,
        "a sequence is truncated inside its answer, to no more than it has computed");
  r->computed = tokens;
  r->uncomputed = {next_token};
  r->generated = tokens - r->request.prompt_tokens + 1;
  s.truncations.push_back({id, tokens});
  r->answer.resize(static_cast<std::size_t>(tokens - r->request.prompt_tokens));
  while (static_cast<std::int32_t>(r->pages.size()) > pages_of(tokens)) {
    s.give_back_last(*r);
  }
}

std::string Planner::invariants_broken() const { return state_->pages_broken(); }

}  // namespace zoetrope
