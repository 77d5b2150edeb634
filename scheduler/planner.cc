#include "scheduler/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "monitoring/check.h"
#include "scheduler/stretches.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kPageTokens = 256;
constexpr int kSpanMembersMax = 64;  // classes of pages

std::int32_t pages_of(std::int64_t tokens) { return static_cast<std::int32_t>(div_ceil(tokens, kPageTokens)); }

// Tokens whose KV a request may come to hold: all but the very last drawn token are computed.
std::int64_t tokens_max(const Request& request) { return request.prompt_tokens + request.new_tokens_max; }

struct Running {
  Request request;
  Span span;
  std::int64_t computed = 0;             // tokens whose K and V are in pages
  std::int64_t planned = 0;              // rows of the outstanding plan
  std::int64_t generated = 0;
  std::vector<std::int32_t> uncomputed;  // drawn tokens that the next step computes
  std::vector<std::int32_t> pages;       // block table
  std::int32_t pages_max = 0;            // promised: the members of the span hold so many together at the end
  std::size_t next_unit = 0;             // units before it were encoded
  std::size_t announced = 0;             // units before it were named in a plan
  std::vector<std::int32_t> unit_ranks;  // of those
  bool cancelled = false;
  std::size_t sampled = 0;               // rows of the outstanding plan whose next token is drawn

  bool decoding() const { return computed >= request.prompt_tokens; }
};

}  // namespace

struct Planner::State {
  Layout layout;
  SchedulerLimits limits;
  std::deque<Request> waiting;
  std::vector<Running> running;  // in order of admission
  std::vector<PagePool> pools;   // one per ring member
  std::vector<Finished> finished;
  std::vector<RequestId> releases;
  std::vector<Truncation> truncations;
  std::uint64_t next_step = 0;
  bool outstanding = false;  // a plan was made and not committed
  std::int64_t ahead_tokens = 0;        // of units that were announced and not encoded
  std::vector<EncodeUnit> needed_now;   // units that the plan in the making announces and encodes

  Running* find(RequestId id) {
    const auto at = std::find_if(running.begin(), running.end(), [&](const Running& r) { return r.request.id == id; });
    return at == running.end() ? nullptr : &*at;
  }

  PagePool& pool_of(int member) { return pools[static_cast<std::size_t>(member)]; }
  const PagePool& pool_of(int member) const { return pools[static_cast<std::size_t>(member)]; }

  std::int32_t sequences_of(int member) const {
    return static_cast<std::int32_t>(
        std::count_if(running.begin(), running.end(), [&](const Running& r) { return r.span.contains(member); }));
  }

  // The widest span of this ring.
  int members_max() const {
    int members = 1;
    while (members * 2 <= std::min(layout.ring, kSpanMembersMax)) {
      members *= 2;
    }
    return limits.span_members > 0 ? limits.span_members : members;
  }

  // How many members a sequence is given when memory does not ask for more. Others that wait or run keep the members busy
  // without any traffic between them.
  int members_wanted(std::int32_t pages) const {
    if (limits.span_members > 0) {
      return limits.span_members;
    }
    int members = 1;
    while (waiting.size() + running.size() <= 1 && members < members_max() && pages / (members * 2) >= limits.span_pages) {
      members *= 2;
    }
    return members;
  }

  // Free pages of the fullest member of a span, or -1 when one has no room for another sequence or for its share.
  std::int32_t room_of(const Span& span, std::int32_t pages) const {
    std::int32_t room = limits.pages_per_member;
    for (int slot = 0; slot < span.members; ++slot) {
      const int member = span.member_at(slot);
      if (sequences_of(member) >= limits.sequences_max || pool_of(member).free_pages() < span.pages_of(slot, pages)) {
        return -1;
      }
      room = std::min(room, pool_of(member).free_pages());
    }
    return room;
  }

  // The span with the most room: of as many members as wanted, of more only where fewer cannot hold the pages.
  std::optional<Span> span_for(std::int32_t pages) const {
    for (int members = members_wanted(pages); members <= members_max(); members *= 2) {
      std::optional<Span> best;
      for (int first = 0; first < layout.ring; ++first) {
        const Span span{.members = members, .first_member = first, .ring = layout.ring};
        if (room_of(span, pages) >= 0 && (!best || room_of(span, pages) > room_of(*best, pages))) {
          best = span;
        }
      }
      if (best) {
        return best;
      }
    }
    return std::nullopt;
  }

  void admit(StepPlan& plan) {
    while (!waiting.empty()) {
      const std::int32_t pages = pages_of(tokens_max(waiting.front()));
      const std::optional<Span> span = span_for(pages);
      if (!span) {
        return;  // strict arrival order: nobody overtakes, so a large request is never starved
      }
      for (int slot = 0; slot < span->members; ++slot) {
        check(pool_of(span->member_at(slot)).reserve(static_cast<std::int32_t>(span->pages_of(slot, pages))),
              "a member with room refused the pages");
      }
      Running r;
      r.request = std::move(waiting.front());
      waiting.pop_front();
      r.span = *span;
      r.pages_max = pages;
      plan.starts.push_back({r.request.id, r.span});
      running.push_back(std::move(r));
    }
  }

  // Pages that were promised to a sequence on the member in `slot` and not taken yet.
  static std::int32_t reserved(const Running& r, int slot) {
    return static_cast<std::int32_t>(r.span.pages_of(slot, r.pages_max) - r.span.pages_of(slot, static_cast<std::int64_t>(r.pages.size())));
  }

  void take_pages(Running& r, Chunk& chunk) {
    const std::int32_t needed = pages_of(chunk.first_token + chunk.tokens);
    check(needed <= r.pages_max, "a sequence needs more pages than were reserved for it");
    while (static_cast<std::int32_t>(r.pages.size()) < needed) {
      const std::int32_t page = pool_of(r.span.owner(static_cast<std::int64_t>(r.pages.size()))).take();
      r.pages.push_back(page);
      chunk.new_pages.push_back(page);
    }
  }

  // Takes the rows [first, first + rows) of a sequence from the room that its members have in this step.
  static void spend(const Span& span, std::int64_t first, std::int64_t rows, std::vector<std::int64_t>& room) {
    for (int slot = 0; slot < span.members; ++slot) {
      auto& left = room[static_cast<std::size_t>(span.member_at(slot))];
      left -= span.rows_of(slot, first, first + rows);
      check(left >= 0, "rows do not fit in a step");
    }
  }

  // The most rows from `first`, at most `wanted`, for which every member of the span has room.
  static std::int64_t rows_with_room(const Span& span, std::int64_t first, std::int64_t wanted, const std::vector<std::int64_t>& room) {
    const auto fits = [&](std::int64_t rows) {
      for (int slot = 0; slot < span.members; ++slot) {
        if (span.rows_of(slot, first, first + rows) > room[static_cast<std::size_t>(span.member_at(slot))]) {
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

  static std::int64_t tokens_of_units(const Running& r, std::size_t first, std::size_t end) {
    std::int64_t tokens = 0;
    for (std::size_t unit = first; unit < end; ++unit) {
      tokens += r.request.units[unit].tokens;
    }
    return tokens;
  }

  std::int64_t stretch_tokens() const { return limits.stretch_tokens * layout.ranks(); }
  std::size_t next_stretch_end(const Running& r) const { return stretch_end(r.request.units, r.next_unit, stretch_tokens()); }

  // Names the next stretch of a sequence; deal() settles who gets its units.
  void announce(Running& r, std::vector<EncodeUnit>& named) {
    r.announced = next_stretch_end(r);
    r.unit_ranks.resize(r.announced, -1);
    ahead_tokens += tokens_of_units(r, r.next_unit, r.announced);
    for (std::size_t unit = r.next_unit; unit < r.announced; ++unit) {
      named.push_back({r.request.id, static_cast<std::int32_t>(unit), -1});
    }
  }

  // Deals what was named at once over all ranks, whatever sequences it is of.
  void deal(std::vector<EncodeUnit> named, StepPlan& plan) {
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
  void plan_units(Running& r, const Chunk& chunk, StepPlan& plan) {
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

  // Who decodes and encodes, and what is decoded while this step and those after it compute: in the order of the sequences,
  // no more than one stretch together.
  void plan_ranks(StepPlan& plan) {
    deal(std::exchange(needed_now, {}), plan);
    for (EncodeUnit& unit : plan.encode) {
      unit.rank = find(unit.id)->unit_ranks[static_cast<std::size_t>(unit.unit)];
    }
    std::vector<EncodeUnit> next;
    for (Running& r : running) {
      if (!limits.look_ahead || r.next_unit >= r.request.units.size() || r.announced > r.next_unit) {
        continue;
      }
      if (ahead_tokens > 0 && ahead_tokens + tokens_of_units(r, r.next_unit, next_stretch_end(r)) > stretch_tokens()) {
        break;
      }
      announce(r, next);
    }
    deal(std::move(next), plan);
  }

  void plan_chunk(Running& r, std::int64_t rows, StepPlan& plan) {
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
    take_pages(r, chunk);
    r.planned = rows;
    r.sampled = chunk.sampled.size();
    plan.chunks.push_back(std::move(chunk));
  }

  void remove(Running& r, FinishReason reason) {
    for (int slot = 0; slot < r.span.members; ++slot) {
      pool_of(r.span.member_at(slot)).unreserve(reserved(r, slot));
    }
    for (std::size_t page = 0; page < r.pages.size(); ++page) {
      pool_of(r.span.owner(static_cast<std::int64_t>(page))).release(r.pages[page]);
    }
    if (r.announced > r.next_unit) {
      ahead_tokens -= tokens_of_units(r, r.next_unit, r.announced);
    }
    releases.push_back(r.request.id);
    finished.push_back({r.request.id, reason});
    running.erase(running.begin() + (&r - running.data()));
  }
};

Planner::Planner(Layout layout, SchedulerLimits limits) : state_(std::make_unique<State>()) {
  check(limits.pages_per_member > 0 && limits.context_tokens_max > 0, "a planner needs pages and a context");
  check(limits.chunk_tokens_max > limits.sequences_max && limits.sequences_max > 0,
        "a step must have room for every decoding row and at least one row of a prompt");
  check(limits.span_members >= 0 && limits.span_members <= std::min(layout.ring, kSpanMembersMax) &&
            (limits.span_members & (limits.span_members - 1)) == 0 && limits.span_pages > 0,
        "a span is a power of two of the ring's members");
  check(limits.stretch_tokens > 0, "a stretch has room for a token");
  state_->layout = layout;
  state_->limits = limits;
  state_->pools.assign(static_cast<std::size_t>(layout.ring), PagePool(limits.pages_per_member));
}

Planner::~Planner() = default;

std::optional<std::string> Planner::refusal(const Request& request) const {
  const SchedulerLimits& limits = state_->limits;
  check(request.prompt_tokens >= 1 && request.new_tokens_max >= 1, "a request without tokens reached the planner");
  if (request.prompt_tokens > limits.context_tokens_max - request.new_tokens_max) {
    return fmt::format(
        "the prompt and the answer do not fit: found {} prompt tokens + {} new tokens = {}, expected at most {} (the context); "
        "shorten the prompt, sample fewer frames (fps, max_frames), make them smaller (total_pixels) or lower max_tokens",
        request.prompt_tokens, request.new_tokens_max, request.prompt_tokens + request.new_tokens_max, limits.context_tokens_max);
  }
  const std::int32_t pages = pages_of(tokens_max(request));
  const std::int64_t most = std::int64_t{limits.pages_per_member} * state_->members_max();
  if (pages > most) {
    const int members = state_->members_max();
    return fmt::format(
        "the request does not fit in KV memory: found {} tokens = {} pages of {}, expected at most {} pages (what {}); give more "
        "memory (--kv-memory){}, sample fewer frames or lower max_tokens",
        tokens_max(request), pages, kPageTokens, most,
        members == 1 ? "one rank holds" : fmt::format("{} ring members hold, {} each", members, limits.pages_per_member),
        members < kSpanMembersMax ? " or more ranks" : "");
  }
  return std::nullopt;
}

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

bool Planner::idle() const {
  return state_->waiting.empty() && state_->running.empty() && state_->releases.empty() && state_->finished.empty();
}

std::size_t Planner::waiting() const { return state_->waiting.size(); }
std::size_t Planner::running() const { return state_->running.size(); }

std::vector<std::int32_t> Planner::pages_in_use() const {
  std::vector<std::int32_t> pages;
  for (const PagePool& pool : state_->pools) {
    pages.push_back(pool.capacity() - pool.free_pages());
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
  s.admit(plan);
  std::vector<std::int64_t> room(static_cast<std::size_t>(s.layout.ring), s.limits.chunk_tokens_max);
  for (Running& r : s.running) {
    if (r.decoding()) {
      const auto rows = static_cast<std::int64_t>(r.uncomputed.size());
      check(rows >= 1, "a decoding sequence has a row");
      Planner::State::spend(r.span, r.computed, rows, room);
      s.plan_chunk(r, rows, plan);
    }
  }
  for (Running& r : s.running) {
    if (r.decoding() || r.planned > 0) {
      continue;
    }
    const std::int64_t rows = Planner::State::rows_with_room(r.span, r.computed, r.request.prompt_tokens - r.computed, room);
    if (rows > 0) {
      Planner::State::spend(r.span, r.computed, rows, room);
      s.plan_chunk(r, rows, plan);
    }
  }
  s.plan_ranks(plan);
  return plan;
}

std::vector<Finished> Planner::commit(const std::vector<Drawn>& drawn) {
  State& s = *state_;
  check(s.outstanding, "a commit without a plan");
  s.outstanding = false;
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
  while (static_cast<std::int32_t>(r->pages.size()) > pages_of(tokens)) {
    PagePool& pool = s.pool_of(r->span.owner(static_cast<std::int64_t>(r->pages.size()) - 1));
    if (pool.release(r->pages.back())) {
      check(pool.reserve(1), "a page that was just freed cannot be reserved");
    }
    r->pages.pop_back();
  }
}

std::string Planner::invariants_broken() const {
  const State& s = *state_;
  std::vector<std::set<std::int32_t>> owned(s.pools.size());
  std::vector<std::int32_t> reserved(s.pools.size(), 0);
  std::int64_t ahead = 0;
  for (const Running& r : s.running) {
    ahead += Planner::State::tokens_of_units(r, r.next_unit, std::max(r.announced, r.next_unit));
    for (int slot = 0; slot < r.span.members; ++slot) {
      reserved[static_cast<std::size_t>(r.span.member_at(slot))] += Planner::State::reserved(r, slot);
    }
    for (std::size_t page = 0; page < r.pages.size(); ++page) {
      const auto member = static_cast<std::size_t>(r.span.owner(static_cast<std::int64_t>(page)));
      if (!owned[member].insert(r.pages[page]).second) {
        return fmt::format("page {} of member {} is held twice", r.pages[page], member);
      }
    }
    if (static_cast<std::int64_t>(r.pages.size()) * kPageTokens < r.computed) {
      return fmt::format("{} pages hold {} tokens", r.pages.size(), r.computed);
    }
  }
  if (ahead != s.ahead_tokens) {
    return fmt::format("{} tokens of units wait to be encoded, counted were {}", ahead, s.ahead_tokens);
  }
  for (std::size_t member = 0; member < s.pools.size(); ++member) {
    const PagePool& pool = s.pools[member];
    const auto used = static_cast<std::int32_t>(owned[member].size());
    if (reserved[member] != pool.reserved() || used + pool.reserved() + pool.free_pages() != pool.capacity()) {
      return fmt::format("member {}: {} pages used + {} reserved + {} free are not {}", member, used, pool.reserved(),
                         pool.free_pages(), pool.capacity());
    }
  }
  return "";
}

}  // namespace zoetrope
