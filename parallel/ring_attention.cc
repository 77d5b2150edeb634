#include "parallel/ring_attention.h"

#include <bit>
#include <functional>
#include <optional>
#include <utility>

#include "monitoring/check.h"
#include "parallel/ring_partials.h"
#include "parallel/ring_wire.h"

namespace zoetrope {
namespace {

// Pages of one member come in messages of about this size.
constexpr std::int64_t kVisitBytes = std::int64_t{32} << 20;

std::int64_t bytes_of(const KvLayout& layout, std::int64_t values) {
  return values * static_cast<std::int64_t>(layout.precision == Precision::kBf16 ? sizeof(Bf16) : sizeof(float));
}

std::int64_t pages_of(const RingJob& job) { return div_ceil(job.first_token + job.tokens, std::int64_t{kPageTokens}); }

std::int64_t rows_of(const RingJob& job, int slot) {
  return job.span.rows_of(slot, job.first_token, job.first_token + job.tokens);
}

// Members of the span other than `slot` for which `counts` is true.
template <typename Counts>
std::int64_t others(const RingJob& job, int slot, Counts counts) {
  std::int64_t found = 0;
  for (int other = 0; other < job.span.members; ++other) {
    found += other != slot && counts(other) ? 1 : 0;
  }
  return found;
}

bool has_pages(const RingJob& job, int slot) { return job.span.pages_of(slot, pages_of(job)) > 0; }

// Tokens of the step that the member in `slot` computes, ascending.
std::vector<std::int64_t> tokens_of(const RingJob& job, int slot) {
  std::vector<std::int64_t> tokens;
  tokens.reserve(static_cast<std::size_t>(rows_of(job, slot)));
  for (std::int64_t token = job.first_token; token < job.first_token + job.tokens; ++token) {
    if (job.span.computes(token) == job.span.member_at(slot)) {
      tokens.push_back(token);
    }
  }
  return tokens;
}

KvSlot slot_of_token(const RingJob& job, std::int64_t token) {
  return {job.block_table[static_cast<std::size_t>(token / kPageTokens)], static_cast<int>(token % kPageTokens)};
}

// Pages of the job whose number is `first` modulo `step`, each where `place` says: its id, or its turn.
template <typename Place>
std::vector<PageRef> page_refs(const RingJob& job, std::int64_t first, std::int64_t step, Place place) {
  std::vector<PageRef> refs;
  const std::int64_t end = job.first_token + job.tokens;
  for (std::int64_t page = first; page < pages_of(job); page += step) {
    refs.push_back({.page_id = place(page, static_cast<std::int64_t>(refs.size())),
                    .first_position = page * kPageTokens,
                    .page_class = static_cast<int>(page % kPageClasses),
                    .valid_rows = static_cast<int>(std::min<std::int64_t>(kPageTokens, end - page * kPageTokens))});
  }
  return refs;
}

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Subtrees of the classes of a span that visit one after the other: a power of two for each member, so that none is
// much larger than kVisitBytes.
int visits_of(const KvLayout& layout, const Span& span, std::int64_t pages) {
  const auto size = static_cast<std::int64_t>(layout.page_bytes());
  int parts = 1;
  while (span.members * parts < kPageClasses &&
         div_ceil(span.pages_of(0, pages), std::int64_t{parts}) * size > kVisitBytes) {
    parts *= 2;
  }
  return span.members * parts;
}

}  // namespace

RingAttention::RingAttention(Communicator& ring, Compute compute, const KvLayout& layout, RingPass pass,
                             const RingRates& rates)
    : ring_(ring), compute_(compute), layout_(layout), pass_(pass), rates_(rates), host_rates_(rates) {}

std::int64_t RingAttention::query_bytes(const KvLayout& layout, int heads, const RingJob& job) {
  const RingStep step = step_of(layout, heads, job, false);
  std::int64_t bytes = 0;
  for (int slot = 0; slot < job.span.members; ++slot) {
    bytes += rows_of(job, slot) * (step.query_bytes + step.partial_bytes) *
             others(job, slot, [&](int other) { return has_pages(job, other); });
  }
  return bytes;
}

std::int64_t RingAttention::page_bytes(const KvLayout& layout, const RingJob& job) {
  std::int64_t visits = 0;
  for (int slot = 0; slot < job.span.members; ++slot) {
    visits +=
        job.span.pages_of(slot, pages_of(job)) * others(job, slot, [&](int other) { return rows_of(job, other) > 0; });
  }
  return visits * static_cast<std::int64_t>(layout.page_bytes());
}

std::int64_t RingAttention::visiting_bytes(const KvLayout& layout, const Span& span, std::int64_t pages) {
  const int leaves = visits_of(layout, span, pages);
  std::array<bool, 2> used{false, false};  // the memory of even and of odd turns
  for (int turn = 0; turn < leaves; ++turn) {
    used[at(turn % 2)] =
        used[at(turn % 2)] || reversed_bits(turn, leaves) % span.members != 0;  // else own pages are read
  }
  return (used[0] + used[1]) * div_ceil(pages, std::int64_t{leaves}) * static_cast<std::int64_t>(layout.page_bytes());
}

std::int64_t RingAttention::row_bytes(const KvLayout& layout, const RingJob& job) {
  std::int64_t rows = 0;
  for (std::int64_t token = job.first_token; token < job.first_token + job.tokens; ++token) {
    rows += job.span.owner(token / kPageTokens) != job.span.computes(token) ? 1 : 0;
  }
  return bytes_of(layout, 2 * rows * layout.kv_heads * layout.head_dim);
}

RingStep RingAttention::step_of(const KvLayout& layout, int heads, const RingJob& job, bool shared) {
  return {.span = job.span,
          .first_token = job.first_token,
          .tokens = job.tokens,
          .heads = heads,
          .kv_heads = layout.kv_heads,
          .page_bytes = static_cast<std::int64_t>(layout.page_bytes()),
          .query_bytes = bytes_of(layout, std::int64_t{heads} * layout.head_dim),
          .partial_bytes = static_cast<std::int64_t>(sizeof(float)) * heads * (2 + layout.head_dim),
          .shared = shared};
}

bool RingAttention::passes_pages(int heads, const RingJob& job, bool shared) const {
  if (pass_ == RingPass::kQueries || pass_ == RingPass::kPages) {
    return pass_ == RingPass::kPages;
  }
  if (pass_ == RingPass::kLeastTime && rates_.known()) {
    const RingStep step = step_of(layout_, heads, job, shared);
    const RingRates& rates = shared ? host_rates_ : rates_;
    return seconds_by_pages(rates, step) < seconds_by_queries(rates, step);
  }
  return shared ? job.tokens >= job.span.members * Span::kRunRows
                : page_bytes(layout_, job) < query_bytes(layout_, heads, job);
}

void RingAttention::check_job(const RingJob& job) const {
  const int member = ring_.rank();
  check(job.span.ring == ring_.size() && job.span.contains(member) &&
            std::has_single_bit(static_cast<unsigned>(job.span.members)) && job.span.members <= kPageClasses,
        "a ring job belongs to a member of its span");
  check_eq(job.q.rows, rows_of(job, job.span.slot_of(member)), "a ring job has the rows that are dealt to this member");
  check(job.k.rows == job.q.rows && job.v.rows == job.q.rows && job.out.rows == job.q.rows,
        "a ring job's q, k, v and out have the same rows");
  check(static_cast<std::int64_t>(job.block_table.size()) >= pages_of(job), "a ring job knows all its pages");
}

// A layer's pages are written once and read once in a step, and a step opens with a fence: one more, between the two,
// is enough.
void RingAttention::run(const RingPages& pages, int heads, std::span<const RingJob> jobs, bool opens_step) {
  if (opens_step) {
    by_pages_.clear();
    for (const RingJob& job : jobs) {
      by_pages_.push_back(passes_pages(heads, job, pages.shared_by(job.span)));
    }
    fence(pages, jobs);
  }
  check_eq(by_pages_.size(), jobs.size(), "every layer of a step has its jobs");
  std::vector<const RingJob*> by_queries, in_place, by_pages;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    check_job(jobs[j]);
    auto& way = !by_pages_[j] ? by_queries : pages.shared_by(jobs[j].span) ? in_place : by_pages;
    way.push_back(&jobs[j]);
  }
  append(pages, jobs);
  fence(pages, jobs);
  attend_by_queries(pages.own, heads, by_queries);
  attend_in_place(pages, in_place);
  for (const RingJob* job : by_pages) {
    attend_by_pages(pages.own, heads, *job);
  }
}

// All members that share pages with this one in these jobs have come here: a message that says nothing, with the
// deadline and the names of those who are missing that every message has.
void RingAttention::fence(const RingPages& pages, std::span<const RingJob> jobs) {
  std::vector<bool> peers(at(ring_.size()), false);
  for (const RingJob& job : jobs) {
    for (int slot = 0; pages.shared_by(job.span) && slot < job.span.members; ++slot) {
      peers[at(job.span.member_at(slot))] = true;
    }
  }
  const std::byte here{1};
  std::vector<std::byte> there(at(ring_.size()));
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (int member = 0; member < ring_.size(); ++member) {
    if (peers[at(member)] && member != ring_.rank()) {
      sends.push_back({member, {&here, 1}});
      receives.push_back({member, {&there[at(member)], 1}});
    }
  }
  if (!sends.empty()) {
    ring_.exchange(sends, receives, "fence of shared pages");
  }
}

// Own new rows straight into the pages that they belong to, whoever owns them.
void RingAttention::store(const RingPages& pages, const RingJob& job) {
  std::vector<KvSlot> slots;
  for (const std::int64_t token : tokens_of(job, job.span.slot_of(ring_.rank()))) {
    const std::int64_t page = token / kPageTokens;
    slots.push_back({pages.number(job.span.owner(page), job.block_table[static_cast<std::size_t>(page)]),
                     static_cast<int>(token % kPageTokens)});
  }
  append_kv(compute_, layout_, pages.all, job.k, job.v, slots);
}

// New K and V rows to the owners of their pages.
void RingAttention::append(const RingPages& pages, std::span<const RingJob> all_jobs) {
  const int member = ring_.rank();
  const std::int64_t columns = std::int64_t{layout_.kv_heads} * layout_.head_dim;
  std::vector<RingJob> jobs;
  for (const RingJob& job : all_jobs) {
    if (pages.shared_by(job.span)) {
      store(pages, job);
    } else {
      jobs.push_back(job);
    }
  }
  RingWire wire(ring_.size(), compute_.rounds());
  for (const RingJob& job : jobs) {
    const auto own = tokens_of(job, job.span.slot_of(member));
    for (std::size_t row = 0; row < own.size(); ++row) {
      const int owner = job.span.owner(own[row] / kPageTokens);
      if (owner != member) {
        wire.put_row(owner, job.k.row(static_cast<std::int64_t>(row)), columns);
        wire.put_row(owner, job.v.row(static_cast<std::int64_t>(row)), columns);
      }
    }
    for (std::int64_t token = job.first_token; token < job.first_token + job.tokens; ++token) {
      if (job.span.computes(token) != member && job.span.owner(token / kPageTokens) == member) {
        wire.expect_rows(job.span.computes(token), 2 * columns);
      }
    }
  }
  wire.post(ring_, "new K and V rows to the owners of their pages").wait();
  for (const RingJob& job : jobs) {
    std::vector<KvSlot> slots;
    rows_.clear();
    for (int slot = 0; slot < job.span.members; ++slot) {
      const auto tokens = tokens_of(job, slot);
      for (std::size_t row = 0; row < tokens.size(); ++row) {
        if (job.span.owner(tokens[row] / kPageTokens) != member) {
          continue;
        }
        slots.push_back(slot_of_token(job, tokens[row]));
        rows_.resize(rows_.size() + static_cast<std::size_t>(2 * columns));
        float* k = rows_.data() + rows_.size() - 2 * columns;
        if (job.span.member_at(slot) == member) {
          std::copy_n(job.k.row(static_cast<std::int64_t>(row)), columns, k);
          std::copy_n(job.v.row(static_cast<std::int64_t>(row)), columns, k + columns);
        } else {
          wire.take_row(job.span.member_at(slot), k, columns);
          wire.take_row(job.span.member_at(slot), k + columns, columns);
        }
      }
    }
    const auto count = static_cast<std::int64_t>(slots.size());
    append_kv(compute_, layout_, pages.own, Rows<const float>{rows_.data(), count, columns, 2 * columns},
              Rows<const float>{count == 0 ? nullptr : rows_.data() + columns, count, columns, 2 * columns}, slots);
  }
}

// The rows of one member in one round of a job.
struct RingAttention::Share {
  const RingJob* job = nullptr;
  int slot = 0;                              // whose rows
  std::vector<std::int64_t> positions = {};  // of them; empty: none
  std::int64_t first = 0;                    // among the rows of that member
  std::vector<float> q = {};                 // of another member
  std::int64_t rows() const { return static_cast<std::int64_t>(positions.size()); }
};

// Queries of one round: up to kRingRoundRows rows of every member of every job, own ones and those that visit.
struct RingAttention::Round {
  explicit Round(int members, bool as_bf16) : wire(members, as_bf16) {}
  // The rows of a slot of job j; null when none of them is here.
  const Share* of(std::size_t j, int slot) const {
    const Share& share = shares[j][at(slot)];
    return share.positions.empty() ? nullptr : &share;
  }
  // Waits for the visitors and unpacks them.
  void arrive(int columns) {
    travel.wait();
    for (std::vector<Share>& of_job : shares) {
      for (Share& share : of_job) {
        for (std::int64_t row = 0; !share.q.empty() && row < share.rows(); ++row) {
          wire.take_row(share.job->span.member_at(share.slot), share.q.data() + row * columns, columns);
        }
      }
    }
  }

  RingWire wire;
  std::vector<std::vector<Share>> shares;  // [jobs][members of the span]
  Exchange travel;                         // last: dropped before the memory it uses
};

// What one turn of a round sends and receives.
struct RingAttention::Turn {
  struct Arrival {
    std::size_t tree;
    Partials partials;  // absent: that member has no pages
    int slot;
  };
  std::vector<Partials> out;
  std::vector<Arrival> in;
  Exchange travel;  // last: dropped before the memory it uses
};

// Sends own rows of the round on their way and expects those of members that visit own pages.
std::unique_ptr<RingAttention::Round> RingAttention::begin(std::int64_t index, int heads,
                                                           std::span<const RingJob* const> jobs) {
  const int member = ring_.rank();
  const std::int64_t columns = std::int64_t{heads} * layout_.head_dim;
  auto round = std::make_unique<Round>(ring_.size(), compute_.rounds());
  for (const RingJob* job : jobs) {
    const int own_slot = job->span.slot_of(member);
    auto& shares = round->shares.emplace_back(at(job->span.members));
    for (int slot = 0; slot < job->span.members; ++slot) {
      const auto tokens = tokens_of(*job, slot);
      const auto all = static_cast<std::int64_t>(tokens.size());
      const std::int64_t first = std::min(index * kRingRoundRows, all), end = std::min(first + kRingRoundRows, all);
      if (first == end || (slot != own_slot && !has_pages(*job, own_slot))) {
        continue;
      }
      Share& share = shares[at(slot)];
      share = {.job = job, .slot = slot, .positions = {tokens.begin() + first, tokens.begin() + end}, .first = first};
      if (slot != own_slot) {
        round->wire.expect_rows(job->span.member_at(slot), share.rows() * columns);
        share.q.resize(static_cast<std::size_t>(share.rows() * columns));
      }
      for (int other = 0; slot == own_slot && other < job->span.members; ++other) {
        for (std::int64_t row = first; other != slot && has_pages(*job, other) && row < end; ++row) {
          round->wire.put_row(job->span.member_at(other), job->q.row(row), columns);
        }
      }
    }
  }
  round->travel = round->wire.post(ring_, "queries to the owners of pages");
  return round;
}

// Queries visit the members that have pages; each makes the partials of its subtree and sends them home. The queries of
// the next round travel while this one is computed.
void RingAttention::attend_by_queries(KvPages pages, int heads, std::span<const RingJob* const> jobs) {
  std::int64_t rounds = 0;
  for (const RingJob* job : jobs) {
    for (int slot = 0; slot < job->span.members; ++slot) {
      rounds = std::max(rounds, div_ceil(rows_of(*job, slot), kRingRoundRows));
    }
  }
  std::unique_ptr<Round> now = rounds > 0 ? begin(0, heads, jobs) : nullptr;
  for (std::int64_t index = 0; index < rounds; ++index) {
    std::unique_ptr<Round> next = index + 1 < rounds ? begin(index + 1, heads, jobs) : nullptr;
    answer(pages, heads, jobs, *now, next == nullptr ? nullptr : &next->travel);
    now = std::move(next);
  }
}

// In turn s, members whose slots differ by the reversed bits of s serve each other: each makes the partials of the
// other's rows over its own pages, which travel while the next turn is computed.
void RingAttention::answer(KvPages pages, int heads, std::span<const RingJob* const> jobs, Round& round,
                           Exchange* next) {
  std::vector<PartialsTree> trees;
  trees.reserve(jobs.size());
  int turns = 0;
  for (const RingJob* job : jobs) {
    trees.emplace_back(compute_, layout_.head_dim, job->span.members, spare_);
    turns = std::max(turns, job->span.members);
  }
  Turn before;
  for (int s = 0; s < turns; ++s) {
    if (s == 1) {
      round.arrive(heads * layout_.head_dim);  // the own rows of turn 0 did not need them
    }
    const Meanwhile meanwhile({s == 0 ? &round.travel : next, &before.travel});
    Compute computing = compute_;
    computing.between = meanwhile.between();
    Turn turn;
    std::vector<SendPart> sends;
    std::vector<ReceivePart> receives;
    for (std::size_t j = 0; j < jobs.size(); ++j) {
      const RingJob& job = *jobs[j];
      const int own_slot = job.span.slot_of(ring_.rank());
      const int slot = own_slot ^ reversed_bits(s, job.span.members);
      if (s >= job.span.members) {
        continue;
      }
      Partials made = partials_of(computing, pages, heads, round.of(j, slot));
      if (s == 0) {
        trees[j].add(std::move(made), own_slot);
        continue;
      }
      if (!made.absent()) {
        sends.push_back({job.span.member_at(slot), turn.out.emplace_back(std::move(made)).bytes()});
      }
      if (const Share* own = round.of(j, own_slot); own != nullptr) {
        const bool there = has_pages(job, slot);
        turn.in.push_back({j, there ? Partials(spare_, own->rows(), heads, layout_.head_dim) : Partials(), slot});
        receives.push_back({job.span.member_at(slot), turn.in.back().partials.bytes()});
        trees[j].beside((there ? 1 : 0) +
                        static_cast<int>(std::ranges::count_if(
                            before.in, [&](const Turn::Arrival& a) { return a.tree == j && !a.partials.absent(); })));
      }
    }
    turn.travel = ring_.post(sends, receives, "partials to the owners of queries");
    take_home(before, trees);
    before = std::move(turn);
  }
  take_home(before, trees);
  round.travel.wait();  // a span of one member has no turn 1
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    if (const Share* own = round.of(j, jobs[j]->span.slot_of(ring_.rank())); own != nullptr) {
      finish(trees[j], jobs[j]->out.slice(own->first, own->rows()));
    }
  }
}

// Partials of a member's rows over own pages; absent without rows or pages.
Partials RingAttention::partials_of(const Compute& compute, KvPages pages, int heads, const Share* share) {
  if (share == nullptr || !has_pages(*share->job, share->job->span.slot_of(ring_.rank()))) {
    return {};
  }
  const RingJob& job = *share->job;
  const int own_slot = job.span.slot_of(ring_.rank());
  Partials partials(spare_, share->rows(), heads, layout_.head_dim);
  const auto refs = page_refs(job, own_slot, job.span.members, [&](std::int64_t page, std::int64_t) {
    return job.block_table[static_cast<std::size_t>(page)];
  });
  const Rows<const float> q =
      share->q.empty() ? job.q.slice(share->first, share->rows())
                       : Rows<const float>{share->q.data(), share->rows(), std::int64_t{heads} * layout_.head_dim};
  attention_partials(compute, layout_, pages, {.q = q, .positions = share->positions, .pages = refs, .out = {}},
                     own_slot, job.span.members, partials.view());
  return partials;
}

void RingAttention::take_home(Turn& turn, std::vector<PartialsTree>& trees) {
  turn.travel.wait();
  for (Turn::Arrival& arrival : turn.in) {
    trees[arrival.tree].add(std::move(arrival.partials), arrival.slot);
  }
  for (Partials& partials : turn.out) {
    partials.give_back(spare_);
  }
  turn.in.clear();
  turn.out.clear();
}

void RingAttention::finish(PartialsTree& tree, Rows<float> out) {
  Partials root = tree.root();
  finish_partials(compute_, layout_.head_dim, root.view(), out);
  root.give_back(spare_);
  partials_alive_max_ = std::max(partials_alive_max_, tree.most_alive());
}

// Pages visit by pointer: own rows attend to all pages where they lie, as one member alone would.
void RingAttention::attend_in_place(const RingPages& pages, std::span<const RingJob* const> jobs) {
  std::vector<std::vector<std::int64_t>> positions;
  std::vector<std::vector<PageRef>> refs;
  std::vector<AttentionJob> here;
  for (const RingJob* job : jobs) {
    positions.push_back(tokens_of(*job, job->span.slot_of(ring_.rank())));
    refs.push_back(page_refs(*job, 0, 1, [&](std::int64_t page, std::int64_t) {
      return pages.number(job->span.owner(page), job->block_table[static_cast<std::size_t>(page)]);
    }));
    here.push_back({.q = job->q, .positions = positions.back(), .pages = refs.back(), .out = job->out});
  }
  attention(compute_, layout_, pages.all, here);
}

std::byte* RingAttention::VisitMemory::at_least(std::size_t count) {
  if (count > bytes.size()) {
    memory = private_memory();
    bytes = memory->allocate(count);
  }
  return bytes.data();
}

// The pages of one turn: a subtree of the classes of the member that visits.
struct RingAttention::Visit {
  int leaf = 0;               // whose low bits are the slot that visits
  std::vector<PageRef> refs;  // where they lie while they visit
  KvPages where;
  Exchange travel;
};

// Sends the visit of turn `turn` on its way: in it, members whose slots differ by the low bits of its reversed bits
// swap pages. Each page is a part, straight from where it lies.
RingAttention::Visit RingAttention::begin_visit(KvPages pages, const RingJob& job, int turn, int leaves) {
  const int members = job.span.members;
  const int own_slot = job.span.slot_of(ring_.rank());
  const auto at_home = [&](std::int64_t page, std::int64_t) {
    return std::int64_t{job.block_table[static_cast<std::size_t>(page)]};
  };
  Visit visit;
  visit.leaf = own_slot ^ reversed_bits(turn, leaves);
  visit.refs = page_refs(job, visit.leaf, leaves, at_home);
  visit.where = pages;
  const int visitor = visit.leaf % members;
  if (visitor == own_slot) {
    return visit;
  }
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  const int peer = job.span.member_at(visitor);
  for (const PageRef& page : page_refs(job, visit.leaf - visitor + own_slot, leaves, at_home)) {
    if (rows_of(job, visitor) > 0) {
      sends.push_back({peer, {pages.page(page.page_id), layout_.page_bytes()}});
    }
  }
  std::byte* const memory =
      visiting_pages_[at(turn % 2)].at_least(job.q.rows > 0 ? visit.refs.size() * layout_.page_bytes() : 0);
  visit.where = {.layer_base = memory, .page_stride = layout_.page_bytes()};
  for (std::size_t i = 0; i < visit.refs.size(); ++i) {
    visit.refs[i].page_id = static_cast<std::int64_t>(i);
    if (job.q.rows > 0) {
      receives.push_back({peer, {visit.where.page(visit.refs[i].page_id), layout_.page_bytes()}});
    }
  }
  visit.travel = ring_.post(sends, receives, "pages to the queries");
  return visit;
}

// Pages visit the queries in turns, a subtree of classes at a time when they are many; those of the next turn travel
// while those of this one are read.
void RingAttention::attend_by_pages(KvPages pages, int heads, const RingJob& job) {
  const int leaves = visits_of(layout_, job.span, pages_of(job));
  const auto positions = tokens_of(job, job.span.slot_of(ring_.rank()));
  PartialsTree tree(compute_, layout_.head_dim, leaves, spare_);
  Visit now = begin_visit(pages, job, 0, leaves);
  for (int turn = 0; turn < leaves; ++turn) {
    now.travel.wait();
    Visit next = turn + 1 < leaves ? begin_visit(pages, job, turn + 1, leaves) : Visit();
    Partials partials;
    if (job.q.rows > 0 && !now.refs.empty()) {
      const Meanwhile meanwhile({&next.travel, nullptr});
      Compute computing = compute_;
      computing.between = meanwhile.between();
      partials = Partials(spare_, job.q.rows, heads, layout_.head_dim);
      attention_partials(computing, layout_, now.where,
                         {.q = job.q, .positions = positions, .pages = now.refs, .out = {}}, now.leaf, leaves,
                         partials.view());
    }
    tree.add(std::move(partials), now.leaf);
    now = std::move(next);
  }
  if (job.q.rows > 0) {
    finish(tree, job.out);
  }
}

}  // namespace zoetrope
