// The pages of a sequence: promised, taken, shared, kept for others, given back; and whether all of it adds up.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "scheduler/planner_state.h"

namespace zoetrope {

// The prefix cache gives back what it must for a member to have so many free pages.
void Planner::State::make_room(int member, std::int32_t pages) {
  while (pool_of(member).free_pages() < pages && cache.reclaim(member)) {
  }
}

// Pages that the member in `slot` promises a sequence which begins in `span` on `shared` pages of others and may have
// `pages` at the end, in `widest`: its share then. Of the shared pages those that stay where they are need not be
// promised; those that a growth moves become copies.
std::int32_t Planner::State::promise(const Span& span, const Span& widest, int slot, std::int64_t pages,
                                     std::int64_t shared) {
  return static_cast<std::int32_t>(widest.pages_of(slot, pages) -
                                   (slot < span.members ? widest.pages_of(slot, shared) : 0));
}

// Promises a sequence the pages that it does not have yet; there is room (room_of).
void Planner::State::reserve(Running& r) {
  r.reserved.assign(static_cast<std::size_t>(r.widest.members), 0);
  const auto shared = static_cast<std::int64_t>(r.pages.size());
  for (int slot = 0; slot < r.widest.members; ++slot) {
    const int member = r.widest.member_at(slot);
    const std::int32_t needed = promise(r.span, r.widest, slot, r.pages_max, shared);
    make_room(member, needed);
    check(pool_of(member).reserve(needed), "a member with room refused the pages");
    r.reserved[static_cast<std::size_t>(slot)] = needed;
  }
}

// The whole pages of a prefix become the first pages of a sequence, which gives back what it was promised for them, if
// it was.
void Planner::State::share_prefix(Running& r, const PrefixCache::Match& match) {
  check(r.pages.empty(), "a prefix is shared before anything is computed");
  for (std::size_t page = 0; page < match.pages.size(); ++page) {
    const auto slot = page % static_cast<std::size_t>(r.span.members);
    PagePool& pool = pool_of(r.span.member_at(static_cast<int>(slot)));
    pool.share(match.pages[page]);
    r.pages.push_back(match.pages[page]);
    r.own.push_back(false);
  }
  for (std::size_t slot = 0; slot < r.reserved.size(); ++slot) {
    const auto index = static_cast<int>(slot);
    const std::int32_t excess =
        promise(r.span, r.widest, index, r.pages_max, 0) -
        promise(r.span, r.widest, index, r.pages_max, static_cast<std::int64_t>(r.pages.size()));
    pool_of(r.widest.member_at(index)).unreserve(excess);
    r.reserved[slot] -= excess;
  }
}

// Takes the pages that a sequence of `tokens` tokens needs beyond those it has.
void Planner::State::take_pages(Running& r, std::int64_t tokens, std::vector<std::int32_t>& taken) {
  while (static_cast<std::int32_t>(r.pages.size()) < pages_of(tokens)) {
    const auto slot = r.pages.size() % static_cast<std::size_t>(r.span.members);
    check(r.reserved[slot] > 0, "a sequence needs more pages than were reserved for it");
    --r.reserved[slot];
    const std::int32_t page = pool_of(r.span.member_at(static_cast<int>(slot))).take();
    r.pages.push_back(page);
    r.own.push_back(true);
    taken.push_back(page);
  }
}

// A page leaves a sequence.
void Planner::State::give_back(Running& r, std::size_t page, int slot) {
  pool_of(r.span.member_at(slot)).release(r.pages[page]);
  promise_again(r, page, slot);
}

// If a page that has left was the sequence's own, the member in `slot` promises another one in its place.
void Planner::State::promise_again(Running& r, std::size_t page, int slot) {
  const int member = r.span.member_at(slot);
  if (r.own[page]) {
    make_room(member, 1);
    check(pool_of(member).reserve(1), "a page that was given back cannot be reserved");
    ++r.reserved[static_cast<std::size_t>(slot)];
  }
}

void Planner::State::give_back_last(Running& r) {
  check(r.own.back(), "a sequence is not shortened into the prefix that it shares");
  give_back(r, r.pages.size() - 1, static_cast<int>((r.pages.size() - 1) % static_cast<std::size_t>(r.span.members)));
  r.pages.pop_back();
  r.own.pop_back();
}

// Puts computed pages into the prefix cache. While a sequence runs these are whole pages of its prompt, to which nobody
// writes any more; when it is finished also its answer and its last page.
void Planner::State::keep_computed(Running& r, bool at_end) {
  if (!r.shares() || !r.keeps) {
    return;
  }
  if (at_end) {
    r.content.tokens.insert(r.content.tokens.end(), r.answer.begin(), r.answer.end());
  }
  const std::int64_t known = std::min(r.computed, static_cast<std::int64_t>(r.content.tokens.size()));
  const std::int64_t before = r.kept;
  while (r.kept * kPageRows < known) {
    const std::int64_t end = std::min((r.kept + 1) * kPageRows, known);
    if (end % kPageRows != 0 && !at_end) {
      break;  // more rows of this page are to come
    }
    const PrefixCache::NodeId node =
        cache.add(r.span, r.node, r.content, r.kept, end, r.pages[static_cast<std::size_t>(r.kept)]);
    if (node == PrefixCache::kRoot) {
      r.keeps = false;  // another sequence keeps the same: what follows would stand on its pages
      break;
    }
    r.node = node;
    if (std::exchange(r.first, false)) {
      r.first_nodes.push_back(node);
    }
    ++r.kept;
  }
  if (r.kept > before) {
    cache.touch(r.node);
  }
}

// Everything a sequence holds goes back.
void Planner::State::let_go(Running& r) {
  for (int slot = 0; slot < r.widest.members; ++slot) {
    pool_of(r.widest.member_at(slot)).unreserve(std::exchange(r.reserved[static_cast<std::size_t>(slot)], 0));
  }
  for (std::size_t page = 0; page < r.pages.size(); ++page) {
    pool_of(r.span.owner(static_cast<std::int64_t>(page))).release(r.pages[page]);
  }
  r.pages.clear();
  r.own.clear();
}

std::string Planner::State::pages_broken() const {
  std::map<std::pair<int, std::int32_t>, std::int32_t> users, owners;
  std::vector<std::int32_t> reserved(pools.size(), 0);
  for (const Running& r : running) {
    for (int slot = 0; slot < r.widest.members; ++slot) {
      reserved[static_cast<std::size_t>(r.widest.member_at(slot))] += r.reserved[static_cast<std::size_t>(slot)];
    }
    for (std::size_t page = 0; page < r.pages.size(); ++page) {
      const std::pair place{r.span.owner(static_cast<std::int64_t>(page)), r.pages[page]};
      ++users[place];
      if (r.own[page] && ++owners[place] > 1) {
        return fmt::format("page {} of member {} was taken twice", r.pages[page], place.first);
      }
    }
    if (static_cast<std::int64_t>(r.pages.size()) * kPageRows < r.computed) {
      return fmt::format("{} pages hold {} tokens", r.pages.size(), r.computed);
    }
  }
  std::int64_t ahead = 0;
  for (const Running& r : running) {
    ahead += tokens_of_units(r, r.next_unit, r.announced());
  }
  if (ahead != ahead_tokens) {
    return fmt::format("{} tokens of units wait to be encoded, counted were {}", ahead, ahead_tokens);
  }
  const auto keepers = cache.keepers();
  for (std::size_t member = 0; member < pools.size(); ++member) {
    const PagePool& pool = pools[member];
    std::int32_t used = 0, kept = 0;
    for (std::int32_t page = 0; page < pool.capacity(); ++page) {
      const std::pair place{static_cast<int>(member), page};
      const auto count = [&](const auto& counts) { return counts.contains(place) ? counts.at(place) : 0; };
      if (pool.references(page) != count(users) || pool.keepers(page) != count(keepers)) {
        return fmt::format("page {} of member {}: {} users and {} keepers are counted, {} and {} hold it", page, member,
                           pool.references(page), pool.keepers(page), count(users), count(keepers));
      }
      used += pool.references(page) > 0 ? 1 : 0;
      kept += pool.references(page) == 0 && pool.keepers(page) > 0 ? 1 : 0;
    }
    if (reserved[member] != pool.reserved() || kept != pool.reclaimable_pages() ||
        used + kept + pool.reserved() + pool.free_pages() != pool.capacity()) {
      return fmt::format("member {}: {} pages used + {} kept + {} reserved + {} free are not {}", member, used, kept,
                         pool.reserved(), pool.free_pages(), pool.capacity());
    }
  }
  return "";
}

}  // namespace zoetrope
