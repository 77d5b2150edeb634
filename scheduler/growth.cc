// Spans that grow: a sequence lives on as few members as its promised pages allow, and doubles when they are full or
// when so much is left to compute that the transfer of half its pages is worth while.
#include <algorithm>
#include <utility>

#include "scheduler/planner_state.h"
#include "scheduler/work.h"

namespace zoetrope {
namespace {

Span widened(Span span, int members) {
  span.members = members;
  return span;
}

}  // namespace

// True when the members of the span have pages promised for `pages` pages of the sequence.
bool Planner::State::holds(const Running& r, std::int64_t pages) const {
  const auto taken = static_cast<std::int64_t>(r.pages.size());
  for (int slot = 0; slot < r.span.members; ++slot) {
    if (r.span.pages_of(slot, pages) - r.span.pages_of(slot, taken) > r.reserved[static_cast<std::size_t>(slot)]) {
      return false;
    }
  }
  return true;
}

// The least number of members above the present ones which hold all pages that are there; 0 when none may.
int Planner::State::next_members(const Running& r) const {
  for (int members = 2 * r.span.members; members <= r.widest.members; members *= 2) {
    const Span wider = widened(r.span, members);
    bool holds_all = true;
    for (int slot = r.span.members; slot < members; ++slot) {
      holds_all = holds_all && wider.pages_of(slot, static_cast<std::int64_t>(r.pages.size())) <=
                                   r.reserved[static_cast<std::size_t>(slot)];
    }
    if (holds_all) {
      return members;
    }
  }
  return 0;
}

// Whether what the old members hand over comes back to their promise. It does not while other sequences use those
// pages: they were promised to one and are used by two. The last of them to be admitted can always grow, and a film
// among them gets its frames (plan_ranks), so the wait ends.
bool Planner::State::can_grow(const Running& r, int members) const {
  std::vector<std::int64_t> still_used(static_cast<std::size_t>(r.span.members), 0);
  for (std::size_t page = 0; page < r.pages.size(); ++page) {
    const auto from = page % static_cast<std::size_t>(r.span.members);
    const bool moves = page % static_cast<std::size_t>(members) != from;
    still_used[from] +=
        moves && r.own[page] && pool_of(r.span.member_at(static_cast<int>(from))).references(r.pages[page]) > 1 ? 1 : 0;
  }
  for (int slot = 0; slot < r.span.members; ++slot) {
    if (still_used[static_cast<std::size_t>(slot)] > pool_of(r.span.member_at(slot)).available_pages()) {
      return false;
    }
  }
  return true;
}

// Widens the span from R to `members`: the member in slot i keeps the pages p with p mod members == i, the others get
// new ids on theirs.
void Planner::State::grow(Running& r, int members, StepPlan& plan) {
  const Span wider = widened(r.span, members);
  Growth growth{r.request.id, wider, {}};
  for (std::size_t page = 0; page < r.pages.size(); ++page) {
    const auto slot = page % static_cast<std::size_t>(members), from = page % static_cast<std::size_t>(r.span.members);
    if (slot == from) {
      continue;
    }
    check(r.reserved[slot] > 0, "a span grows into pages that were not promised");
    --r.reserved[slot];
    const std::int32_t to = pool_of(wider.member_at(static_cast<int>(slot))).take();
    pool_of(r.span.member_at(static_cast<int>(from))).leave(r.pages[page]);  // it is read in this step
    promise_again(r, page, static_cast<int>(from));
    r.pages[page] = to;
    r.own[page] = true;
    growth.pages.push_back(to);
  }
  r.span = wider;
  // What it keeps for others from now on lies in the new place.
  r.node = PrefixCache::kRoot;
  r.kept = 0;
  r.keeps = r.first = true;
  plan.growths.push_back(std::move(growth));
}

// As many of the rows as the sequence has pages for, grown where it must and can.
std::int64_t Planner::State::rows_with_pages(Running& r, std::int64_t rows, StepPlan& plan) {
  while (!holds(r, pages_of(r.computed + rows))) {
    if (const int members = next_members(r); members > 0 && can_grow(r, members)) {
      grow(r, members, plan);
      continue;
    }
    stalled = true;
    auto pages = static_cast<std::int64_t>(r.pages.size());
    while (holds(r, pages + 1)) {
      ++pages;
    }
    return std::min(rows, pages * kPageRows - r.computed);
  }
  return rows;
}

// A prefill that is left alone takes members that nobody uses, where what it saves is worth what it sends: each of R
// members hands every other page to its partner, and from then on the rest of the work is dealt over 2R.
bool Planner::State::growth_pays(const Running& r) const {
  const int members = r.span.members;
  const Span wider = widened(r.span, 2 * r.span.members);
  const std::int64_t left = r.request.prompt_tokens - r.computed;
  if (limits.span_members > 0 || wider.members > members_max() || !waiting.empty() || r.computed == 0 || left <= 0 ||
      pages_of(left) / wider.members < limits.span_pages || !widening_pays(r.request, r.computed, r.span)) {
    return false;
  }
  for (int slot = members; slot < wider.members; ++slot) {
    if (sequences_of(wider.member_at(slot)) > (r.widest.contains(wider.member_at(slot)) ? 1 : 0)) {
      return false;
    }
  }
  for (const Running& other : running) {
    if (other.waits_for == r.request.id) {
      return false;  // it was promised pages in this span
    }
  }
  const double saved = work_of(r.request, r.computed, r.span) - work_of(r.request, r.computed, wider);
  const auto sent = div_ceil<std::int64_t>(static_cast<std::int64_t>(r.pages.size()), wider.members);
  return saved > 2 * static_cast<double>(sent) * static_cast<double>(work_in(wider).page_transfer);
}

// Lets the span grow to twice its members at the end, if they have the pages.
bool Planner::State::widen(Running& r) {
  const Span wider = widened(r.span, 2 * r.span.members);
  for (int slot = r.widest.members; slot < wider.members; ++slot) {
    if (pool_of(wider.member_at(slot)).available_pages() < wider.pages_of(slot, r.pages_max)) {
      return false;
    }
  }
  for (int slot = r.widest.members; slot < wider.members; ++slot) {
    const auto pages = static_cast<std::int32_t>(wider.pages_of(slot, r.pages_max));
    make_room(wider.member_at(slot), pages);
    check(pool_of(wider.member_at(slot)).reserve(pages), "a member with room refused the pages");
    r.reserved.push_back(pages);
  }
  r.widest.members = std::max(r.widest.members, wider.members);
  return true;
}

void Planner::State::grow_for_work(Running& r, StepPlan& plan) {
  const int before = r.widest.members;
  const int members = 2 * r.span.members;
  if (!widen(r) || next_members(r) != members || !can_grow(r, members)) {
    return;  // a promise that was widened stays: the span may grow later
  }
  grow(r, members, plan);
  // The first members need not hold as much at the end as they were to hold alone.
  for (int slot = 0; slot < before && before < r.widest.members; ++slot) {
    std::int64_t held = 0;
    for (auto page = static_cast<std::size_t>(slot); page < r.pages.size();
         page += static_cast<std::size_t>(r.widest.members)) {
      ++held;
    }
    const auto needed = static_cast<std::int32_t>(r.widest.pages_of(slot, r.pages_max) - held);
    std::int32_t& promised = r.reserved[static_cast<std::size_t>(slot)];
    check(promised >= needed, "a member of a wider span needs more pages than of a narrow one");
    pool_of(r.span.member_at(slot)).unreserve(promised - needed);
    promised = needed;
  }
}

}  // namespace zoetrope
