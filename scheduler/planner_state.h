// What the planner keeps: sequences, the pools of the members, the prefix cache. Internal to scheduler/: one class in
// files by subject (planner.cc: steps, admission.cc: who enters and where, sequence_pages.cc: pages of a sequence and
// their accounting).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "monitoring/check.h"
#include "scheduler/planner.h"
#include "scheduler/prefix_cache.h"

namespace zoetrope {

inline constexpr int kSpanMembersMax = 64;  // classes of pages

inline std::int32_t pages_of(std::int64_t tokens) { return static_cast<std::int32_t>(div_ceil(tokens, kPageRows)); }

// Tokens whose KV a request may come to hold: all but the very last drawn token are computed.
inline std::int64_t tokens_max(const Request& request) { return request.prompt_tokens + request.new_tokens_max; }

struct Running {
  Request request;
  Content content;  // of the prompt; no tokens: shares nothing
  Span span;
  Span widest;                         // what the span may have grown to at the end: its members have promised pages
  bool started = false;                // the ranks know it
  std::optional<RequestId> waits_for;  // computes a prefix of `shared_tokens` tokens that this one will use too
  std::int64_t shared_tokens = 0;
  std::int64_t computed = 0;  // tokens whose K and V are in pages
  std::int64_t planned = 0;   // rows of the outstanding plan
  std::int64_t generated = 0;
  std::vector<std::int32_t> uncomputed;  // drawn tokens that the next step computes
  std::vector<std::int32_t> answer;      // drawn tokens that are computed
  std::vector<std::int32_t> pages;       // block table
  std::vector<bool> own;  // of each page: taken from this sequence's reservation, not shared with the one before
  std::vector<std::int32_t> reserved;    // by slot of `widest`: pages promised and not taken yet
  std::int32_t pages_max = 0;            // pages at the end
  std::size_t next_unit = 0;             // units before it were encoded, or are part of a cached prefix
  std::deque<std::size_t> stretch_ends;  // of the stretches that were named in a plan and are not encoded
  std::vector<std::int32_t> unit_ranks;  // of all units that were named
  std::size_t ready_units = 0;           // units before it are decoded
  std::uint64_t named_in = 0;            // the step in which a stretch of it was named last
  bool cancelled = false;
  bool failed = false;                            // what it computed may be wrong: nobody else uses it
  std::size_t sampled = 0;                        // rows of the outstanding plan whose next token is drawn
  PrefixCache::NodeId node = PrefixCache::kRoot;  // of its last page in the prefix cache
  std::vector<PrefixCache::NodeId> first_nodes;   // of the first ones that it put there itself, in every span it had
  bool first = true;                              // the next one that it puts there is such a one
  std::int64_t kept = 0;                          // its pages in the prefix cache
  bool keeps = true;                              // goes on putting pages there

  std::size_t announced() const {
    return stretch_ends.empty() ? next_unit : stretch_ends.back();
  }  // units before it were named
  bool decoding() const { return started && computed >= request.prompt_tokens; }
  bool shares() const { return !content.tokens.empty(); }
};

// What the members of the ring can still compute in a step.
struct StepRoom {
  std::vector<std::int64_t> rows;  // by member
  std::vector<std::int64_t> work;  // by member, in units of work.h; not bounded where nobody decodes

  StepRoom& operator+=(const StepRoom& other);
  StepRoom& operator-=(const StepRoom& other);
};

struct Planner::State {
  State(Layout layout_, const SchedulerLimits& limits_)
      : layout(layout_),
        limits(limits_),
        pools(static_cast<std::size_t>(layout_.ring), PagePool(limits_.pages_per_member)),
        cache(pools) {}

  Layout layout;
  SchedulerLimits limits;
  std::deque<Request> waiting;
  std::vector<Running> running;  // in order of admission
  std::vector<PagePool> pools;   // one per ring member
  PrefixCache cache;
  std::vector<Finished> finished;
  std::vector<RequestId> releases;
  std::vector<Truncation> truncations;
  std::uint64_t next_step = 0;
  bool outstanding = false;            // a plan was made and not committed
  std::int64_t ahead_tokens = 0;       // of units that were named and not encoded
  int turn_rank = 0;                   // whose turn it is where units are fewer than ranks
  std::vector<EncodeUnit> needed_now;  // units that the plan in the making announces and encodes
  bool stalled = false;                // a sequence waits for pages to grow: nobody else enters

  Running* find(RequestId id);
  PagePool& pool_of(int member) { return pools[static_cast<std::size_t>(member)]; }
  const PagePool& pool_of(int member) const { return pools[static_cast<std::size_t>(member)]; }

  // admission.cc: who enters, and where.
  struct Source {              // of a prefix
    PrefixCache::Match match;  // what can be used now
    std::int64_t tokens = 0;   // what can be used once `waits_for` has computed it
    std::optional<RequestId> waits_for;
  };
  int members_max() const;
  const WorkModel& work_in(const Span& span) const;
  double work_of(const Request& request, std::int64_t computed, const Span& span) const;
  bool widening_pays(const Request& request, std::int64_t computed, const Span& span) const;
  int members_wanted(const Request& request, int first_member) const;
  bool starts_in(const Span& span, const Span& widest, std::int32_t planned, std::int32_t pages) const;
  std::int32_t sequences_of(int member) const;
  bool crowded(const Span& span, std::int32_t slack) const;
  std::int32_t room_of(const Span& span, int widest, std::int32_t pages, const PrefixCache::Match* match) const;
  struct Place {
    Span span, widest;
  };
  std::optional<Place> place_for(const Request& request) const;
  bool could_share(const Span& span, std::int32_t pages, std::int64_t shared) const;
  std::optional<Place> place_at(const Source& source, std::int32_t pages) const;
  PrefixCache::Match match_of(const Running& other, const Content& content, std::int64_t tokens) const;
  Source longest_prefix(const Content& content, std::int64_t tokens_max, const Span* span) const;
  bool admit_first(StepPlan& plan);
  void admit(StepPlan& plan);
  void start_waiting(StepPlan& plan);
  void start(Running& r, PrefixCache::Match match, StepPlan& plan);

  // growth.cc: spans that double.
  bool holds(const Running& r, std::int64_t pages) const;
  int next_members(const Running& r) const;
  bool can_grow(const Running& r, int members) const;
  void grow(Running& r, int members, StepPlan& plan);
  bool growth_pays(const Running& r) const;
  bool widen(Running& r);
  void grow_for_work(Running& r, StepPlan& plan);
  std::int64_t rows_with_pages(Running& r, std::int64_t rows, StepPlan& plan);

  // sequence_pages.cc: what a sequence holds.
  void make_room(int member, std::int32_t pages);
  static std::int32_t promise(const Span& span, const Span& widest, int slot, std::int64_t pages, std::int64_t shared);
  void reserve(Running& r);
  void share_prefix(Running& r, const PrefixCache::Match& match);
  void take_pages(Running& r, std::int64_t tokens, std::vector<std::int32_t>& taken);
  void give_back(Running& r, std::size_t page, int slot);
  void promise_again(Running& r, std::size_t page, int slot);
  void give_back_last(Running& r);
  void keep_computed(Running& r, bool at_end);
  void let_go(Running& r);
  std::string pages_broken() const;

  // units.cc: films, by stretches.
  static std::int64_t tokens_of_units(const Running& r, std::size_t first, std::size_t end);
  static std::int64_t held_tokens(const Running& r);
  std::int64_t stretch_tokens() const;
  std::size_t next_stretch_end(const Running& r) const;
  void announce(Running& r, std::vector<EncodeUnit>& named);
  void deal(std::vector<EncodeUnit> named, StepPlan& plan);
  std::int64_t rows_with_frames(const Running& r, std::int64_t wanted) const;
  void plan_units(Running& r, const Chunk& chunk, StepPlan& plan);
  void plan_ranks(StepPlan& plan);
  void note_frames(const std::vector<PendingFrames>& pending);

  // planner.cc: steps.
  StepRoom room_of_step() const;
  static void spend_rows(const Span& span, std::int64_t first, std::int64_t rows, StepRoom& room);
  void spend(const Span& span, std::int64_t first, std::int64_t rows, StepRoom& room) const;
  std::int64_t rows_with_room(const Span& span, std::int64_t first, std::int64_t wanted, const StepRoom& room) const;
  std::int64_t rows_wanted(const Running& r) const;
  void cut_chunks(StepPlan& plan) const;
  void plan_chunk(Running& r, std::int64_t rows, StepPlan& plan);
  void plan_prefill(Running& r, StepRoom& room, StepPlan& plan);
  void plan_prefills(const StepRoom& room, StepPlan& plan);
  void remove(Running& r, FinishReason reason);
};

}  // namespace zoetrope
