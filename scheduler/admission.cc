// Who enters and where: refusals with the numbers, the span of a sequence, the prefix that it need not compute.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "scheduler/planner_state.h"

namespace zoetrope {
namespace {

// A prefix of at least this length decides where a sequence goes: its pages are where they are. What is shorter, the
// few tokens with which every conversation begins, is used only where it happens to lie.
constexpr std::int64_t kDecidingTokens = kPageRows;
// Up to so many tokens without a film, which would be decoded again, are computed again rather than waited for, where
// the members that have them are full or have so many more sequences than another one (any more, where what follows
// them is longer).
constexpr std::int64_t kAgainTokens = 4096;
constexpr std::int32_t kCrowdedBy = 8;
// Copying a page for fewer rows is not worth while.
constexpr std::int64_t kSharedTokensMin = 16;
// Answers are seldom longer, whatever a request allows: so many tokens pay the price of a span at most.
constexpr std::int64_t kAnswerTokens = 1024;
// A wider span takes so much of the work of a narrower one at most: rates were measured in a few milliseconds.
constexpr double kWorthSpanning = 0.9;

}  // namespace

std::int32_t Planner::State::sequences_of(int member) const {
  return static_cast<std::int32_t>(
      std::count_if(running.begin(), running.end(), [&](const Running& r) { return r.widest.contains(member); }));
}

// True where a member of the span has more sequences than another one of the ring and `slack`.
bool Planner::State::crowded(const Span& span, std::int32_t slack) const {
  std::int32_t least = sequences_of(0), most = 0;
  for (int member = 1; member < layout.ring; ++member) {
    least = std::min(least, sequences_of(member));
  }
  for (int slot = 0; slot < span.members; ++slot) {
    most = std::max(most, sequences_of(span.member_at(slot)));
  }
  return most > least + slack;
}

// The widest span of this ring.
int Planner::State::members_max() const {
  int members = 1;
  while (members * 2 <= std::min(layout.ring, kSpanMembersMax)) {
    members *= 2;
  }
  return limits.span_members > 0 ? limits.span_members : members;
}

// What the members of a span pay each other: less where all see each other's pages.
const WorkModel& Planner::State::work_in(const Span& span) const {
  return span.on_one_host(limits.hosts) ? limits.host_work : limits.work;
}

// Work of the busiest member of a span from `computed` tokens of a request until its answer.
double Planner::State::work_of(const Request& request, std::int64_t computed, const Span& span) const {
  const WorkModel& work = work_in(span);
  const std::int64_t drawn = std::min(request.new_tokens_max, kAnswerTokens);
  return work.of_span(span.members, computed, request.prompt_tokens - computed, limits.chunk_tokens_max) +
         static_cast<double>(drawn) * work.of_span(span.members, request.prompt_tokens, 1, limits.chunk_tokens_max);
}

// True where twice as many members take work off the busiest, enough of it.
bool Planner::State::widening_pays(const Request& request, std::int64_t computed, const Span& span) const {
  Span wider = span;
  wider.members *= 2;
  return work_of(request, computed, wider) < kWorthSpanning * work_of(request, computed, span);
}

// How many members, from that one on, a sequence is given when memory does not ask for more: twice as many while that
// pays. Others that wait or run keep the members busy without any traffic between them.
int Planner::State::members_wanted(const Request& request, int first_member) const {
  if (limits.span_members > 0) {
    return limits.span_members;
  }
  Span span{.members = 1, .first_member = first_member, .ring = layout.ring};
  while (waiting.size() + running.size() <= 1 && span.members < members_max() &&
         pages_of(request.prompt_tokens) / (span.members * 2) >= limits.span_pages && widening_pays(request, 0, span)) {
    span.members *= 2;
  }
  return span.members;
}

// Pages that the fullest member of a span could give, or -1 when one has no room for another sequence or for what it
// must promise, `match` (may be null) being shared. The span may grow to `widest` members.
std::int32_t Planner::State::room_of(const Span& span, int widest, std::int32_t pages,
                                     const PrefixCache::Match* match) const {
  const auto brought = match == nullptr ? 0 : static_cast<std::int64_t>(match->pages.size());
  const Span last{.members = widest, .first_member = span.first_member, .ring = span.ring};
  std::int32_t room = limits.pages_per_member;
  for (int slot = 0; slot < widest; ++slot) {
    const int member = last.member_at(slot);
    std::int32_t available = pool_of(member).available_pages();
    for (std::int64_t page = slot; slot < span.members && page < brought; page += span.members) {
      const std::int32_t id = match->pages[static_cast<std::size_t>(page)];
      available -= pool_of(member).references(id) == 0 ? 1 : 0;  // kept so far; it will be used
    }
    if (sequences_of(member) >= limits.sequences_max || available < promise(span, last, slot, pages, brought)) {
      return -1;
    }
    room = std::min(room, available);
  }
  return room;
}

// True when the members of `span` hold the planned pages with what is promised for `pages` in `widest`.
bool Planner::State::starts_in(const Span& span, const Span& widest, std::int32_t planned, std::int32_t pages) const {
  for (int slot = 0; slot < span.members; ++slot) {
    if (span.pages_of(slot, planned) > widest.pages_of(slot, pages)) {
      return false;
    }
  }
  return true;
}

// Where a sequence goes, with the pages of its prompt now and those of its longest answer at most. The widest span is
// of as many members as wanted, among those where so many pay, of more only where fewer cannot hold the pages at the
// end; the sequence begins on as few of them as hold its prompt, but on as many as pay there.
std::optional<Planner::State::Place> Planner::State::place_for(const Request& request) const {
  const std::int32_t planned = pages_of(request.prompt_tokens), pages = pages_of(tokens_max(request));
  std::vector<int> wanted_at(static_cast<std::size_t>(layout.ring), members_wanted(request, 0));
  for (int first = 1; first < layout.ring && !limits.hosts.empty(); ++first) {
    wanted_at[static_cast<std::size_t>(first)] = members_wanted(request, first);
  }
  const int wanted = std::ranges::max(wanted_at);
  for (int members = wanted; members <= members_max(); members *= 2) {
    struct Candidate {
      Span span;
      int wanted;
      std::int32_t room;
      double price;  // what its members pay each other is in it
    };
    std::vector<Candidate> candidates;
    for (int first = 0; first < layout.ring; ++first) {
      const Span span{.members = members, .first_member = first, .ring = layout.ring};
      const int wanted_here = wanted_at[static_cast<std::size_t>(first)];
      const std::int32_t room = room_of(span, members, pages, nullptr);
      if (room >= 0 && (members > wanted || wanted_here == wanted)) {
        candidates.push_back({span, wanted_here, room, limits.hosts.empty() ? 0.0 : work_of(request, 0, span)});
      }
    }
    if (!candidates.empty()) {
      // Of those that cost about as little as the cheapest, where more members pay to begin with and with the most
      // room.
      const double cheapest = std::ranges::min(candidates, {}, &Candidate::price).price;
      std::erase_if(candidates, [&](const Candidate& other) { return kWorthSpanning * other.price > cheapest; });
      const Candidate& best = *std::ranges::max_element(
          candidates, {}, [](const Candidate& candidate) { return std::pair(candidate.wanted, candidate.room); });
      Place place{.span = best.span, .widest = best.span};
      place.span.members = best.wanted;
      while (!starts_in(place.span, place.widest, planned, pages)) {
        place.span.members *= 2;
      }
      return place;
    }
  }
  return std::nullopt;
}

// False when the members of the span and of those it may grow to could not hold the shared pages and the others
// together even if nothing else were there: shared pages stay on the first members, also where a growth would have
// moved them.
bool Planner::State::could_share(const Span& span, std::int32_t pages, std::int64_t shared) const {
  const Span last{.members = members_max(), .first_member = span.first_member, .ring = span.ring};
  for (int slot = 0; slot < span.members; ++slot) {
    if (promise(span, last, slot, pages, shared) + span.pages_of(slot, shared) > limits.pages_per_member) {
      return false;
    }
  }
  return true;
}

// A sequence that uses a prefix begins in the span of the prefix. One that waits for its prefix is promised all its
// pages, as if it had to compute them itself in the end.
std::optional<Planner::State::Place> Planner::State::place_at(const Source& source, std::int32_t pages) const {
  Place place{.span = source.match.span, .widest = source.match.span};
  for (; place.widest.members <= members_max(); place.widest.members *= 2) {
    if (room_of(place.span, place.widest.members, pages, source.waits_for ? nullptr : &source.match) >= 0) {
      return place;
    }
  }
  return std::nullopt;
}

// `tokens` computed tokens of a running sequence, as another one whose content begins so may use them.
PrefixCache::Match Planner::State::match_of(const Running& other, const Content& content, std::int64_t tokens) const {
  PrefixCache::Match match;
  match.span = other.span;
  match.tokens = std::min(tokens, other.computed);
  const auto whole = static_cast<std::size_t>(match.tokens / kPageRows);
  match.pages.assign(other.pages.begin(), other.pages.begin() + static_cast<std::ptrdiff_t>(whole));
  match.rest = match.tokens % kPageRows > 0 ? other.pages[whole] : -1;
  const PrefixCache::Match kept = cache.longest_in(other.span, content, match.tokens);
  match.node = kept.pages == match.pages ? kept.node : PrefixCache::kRoot;
  return match;
}

// The longest prefix of `content` that is computed or being computed: in any span, also by those that wait themselves;
// or only in the one given, by those that have started.
Planner::State::Source Planner::State::longest_prefix(const Content& content, std::int64_t tokens_max,
                                                      const Span* span) const {
  Source best;
  best.match = span != nullptr ? cache.longest_in(*span, content, tokens_max) : cache.longest(content, tokens_max);
  best.tokens = best.match.tokens;
  for (const Running& other : running) {
    if (!other.shares() || other.cancelled || (span != nullptr && (other.span != *span || !other.started))) {
      continue;
    }
    const std::int64_t equal = equal_tokens(other.content, content, 0, tokens_max);
    if (equal > best.tokens) {
      best.match = match_of(other, content, equal);
      best.tokens = equal;
      best.waits_for = equal > other.computed ? std::optional(other.request.id) : std::nullopt;
    }
  }
  return best;
}

// Admits the first that waits, unless there is no room for it.
bool Planner::State::admit_first(StepPlan& plan) {
  const Request& request = waiting.front();
  Content content{request.tokens, request.units};
  const std::int32_t pages = pages_of(tokens_max(request));
  std::optional<Place> place;
  Source prefix, source;
  if (!content.tokens.empty()) {
    prefix = longest_prefix(content, request.prompt_tokens - 1, nullptr);
  }
  const bool decides =
      prefix.tokens >= kDecidingTokens && could_share(prefix.match.span, pages, prefix.tokens / kPageRows);
  const bool again =
      decides && prefix.tokens <= kAgainTokens && std::ranges::none_of(content.units, [&](const UnitSpan& unit) {
        return unit.film && unit.first_token < prefix.tokens;
      });
  const bool follows_more = 2 * prefix.tokens < request.prompt_tokens;
  const bool elsewhere =
      again && (crowded(prefix.match.span, follows_more ? 0 : kCrowdedBy) ||
                (follows_more && prefix.match.span.members > members_wanted(request, prefix.match.span.first_member)));
  if (decides && !elsewhere) {
    place = place_at(prefix, pages);
    source = prefix;
  }
  if (!place && (!decides || again)) {
    place = place_for(request);
    source = {};
    if (place && !content.tokens.empty()) {
      Source here = longest_prefix(content, request.prompt_tokens - 1, &place->span);
      if (here.waits_for && decides && here.tokens >= kDecidingTokens &&
          could_share(place->span, pages, here.tokens / kPageRows)) {
        source = std::move(here);  // the first one there computes it again, and those behind it wait for that one
      } else {
        source.match = std::move(here.match);
      }
    }
    if (!source.waits_for && (source.match.tokens < kSharedTokensMin || !place ||
                              room_of(place->span, place->widest.members, pages, &source.match) < 0)) {
      source.match = {};
    }
  }
  if (!place && again) {
    place = place_at(prefix, pages);  // crowded, but there is room for one that shares
    source = prefix;
  }
  if (!place) {
    return false;
  }
  Running r;
  r.request = std::move(waiting.front());
  waiting.pop_front();
  std::vector<std::int32_t>().swap(r.request.tokens);  // content has them
  r.content = std::move(content);
  r.span = place->span;
  r.widest = place->widest;
  r.pages_max = pages;
  r.waits_for = source.waits_for;
  r.shared_tokens = source.tokens;
  if (!r.waits_for) {
    share_prefix(r, source.match);
  }
  reserve(r);
  running.push_back(std::move(r));
  if (!running.back().waits_for) {
    start(running.back(), source.match, plan);
  }
  return true;
}

void Planner::State::admit(StepPlan& plan) {
  while (!waiting.empty() && admit_first(plan)) {
    // Strict arrival order: nobody overtakes, so a large request is never starved.
  }
}

// Starts those whose prefix is computed by now, or will not be.
void Planner::State::start_waiting(StepPlan& plan) {
  for (Running& r : running) {
    if (r.started) {
      continue;
    }
    if (const Running* other = find(*r.waits_for);
        other != nullptr && !other->cancelled && other->span == r.span && other->computed < r.shared_tokens) {
      continue;
    }
    // Others may be computing the same by now: the first of those that waited for a request which went away.
    Source source = longest_prefix(r.content, r.request.prompt_tokens - 1, &r.span);
    if (source.waits_for) {
      r.waits_for = source.waits_for;
      r.shared_tokens = source.tokens;
      continue;
    }
    const PrefixCache::Match match = source.match.tokens >= kSharedTokensMin ? source.match : PrefixCache::Match{};
    share_prefix(r, match);
    start(r, match, plan);
  }
}

void Planner::State::start(Running& r, PrefixCache::Match match, StepPlan& plan) {
  if (match.rest >= 0 && !holds(r, static_cast<std::int64_t>(r.pages.size()) + 1)) {
    // The span must grow before it has a page for the copy: these rows are computed again.
    match.rest = -1;
    match.tokens -= match.tokens % kPageRows;
  }
  SequenceStart entry;
  entry.id = r.request.id;
  entry.span = r.span;
  entry.cached_tokens = match.tokens;
  entry.pages = r.pages;
  if (match.rest >= 0) {
    entry.copied_page = match.rest;
    take_pages(r, match.tokens, entry.pages);
  }
  r.started = true;
  r.waits_for.reset();
  r.computed = match.tokens;
  r.node = match.node;
  r.kept = static_cast<std::int64_t>(match.pages.size());
  r.keeps = match.pages.empty() || match.node != PrefixCache::kRoot;
  cache.touch(r.node);
  while (r.next_unit < r.request.units.size() &&
         r.request.units[r.next_unit].first_token + r.request.units[r.next_unit].tokens <= r.computed) {
    ++r.next_unit;
  }
  plan.starts.push_back(std::move(entry));
}

std::optional<std::string> Planner::refusal(const Request& request) const {
  const SchedulerLimits& limits = state_->limits;
  check(request.prompt_tokens >= 1 && request.new_tokens_max >= 1, "a request without tokens reached the planner");
  if (request.prompt_tokens > limits.context_tokens_max - request.new_tokens_max) {
    return fmt::format(
        "the prompt and the answer do not fit: found {} prompt tokens + {} new tokens = {}, expected at most {} (the "
        "context); "
        "shorten the prompt, sample fewer frames (fps, max_frames), make them smaller (total_pixels) or lower "
        "max_tokens",
        request.prompt_tokens, request.new_tokens_max,
        static_cast<std::uint64_t>(request.prompt_tokens) + static_cast<std::uint64_t>(request.new_tokens_max),
        limits.context_tokens_max);
  }
  const std::int32_t pages = pages_of(tokens_max(request));
  const std::int64_t most = std::int64_t{limits.pages_per_member} * state_->members_max();
  if (pages > most) {
    const int members = state_->members_max();
    return fmt::format(
        "the request does not fit in KV memory: found {} prompt tokens + {} new tokens = {} pages of {}, expected at "
        "most {} pages (what {}); "
        "give more memory (--kv-memory){}, sample fewer frames or lower max_tokens (left out, it is the rest of the "
        "context, which "
        "--context shortens)",
        request.prompt_tokens, request.new_tokens_max, pages, kPageRows, most,
        members == 1 ? "one rank holds"
                     : fmt::format("{} ring members hold, {} each", members, limits.pages_per_member),
        members < kSpanMembersMax ? " or more ranks" : "");
  }
  return std::nullopt;
}

}  // namespace zoetrope
