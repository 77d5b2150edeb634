#include "parallel/ring_attention.h"

#include <bit>
#include <functional>
#include <optional>
#include <utility>

#include "monitoring/check.h"
#include "parallel/bf16_wire.h"

namespace zoetrope {
namespace {

// Own rows that visit the other members together: bounds the memory of partials, and enough to keep tiles full.
constexpr std::int64_t kQueryRows = 256;
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

int reversed_bits(int value, int count) {
  int reversed = 0;
  for (int bit = 1; bit < count; bit *= 2) {
    reversed = reversed * 2 + (value & 1);
    value /= 2;
  }
  return reversed;
}

std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace

// Partials (m, l, o) of some rows in one piece of memory, the form in which they travel; no memory: an absent subtree.
class RingAttention::Partials {
 public:
  Partials() = default;
  Partials(std::vector<float> memory, std::int64_t rows, std::int64_t heads, int head_dim)
      : memory_(std::move(memory)), rows_(rows), heads_(heads), head_dim_(head_dim) {
    memory_.resize(static_cast<std::size_t>(rows * heads * (2 + head_dim)));
  }

  bool absent() const { return memory_.empty(); }
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(memory_)); }
  std::vector<float> release() { return std::move(memory_); }
  AttentionPartials view() {
    float* m = memory_.data();
    float* l = m + rows_ * heads_;
    return {.m = {m, rows_, heads_}, .l = {l, rows_, heads_}, .o = {l + rows_ * heads_, rows_, heads_ * head_dim_}};
  }

 private:
  std::vector<float> memory_;
  std::int64_t rows_ = 0, heads_ = 0;
  int head_dim_ = 0;
};

namespace {

// The tree of rule 4 over `members` leaves that arrive in bit-reversed order, from any first one: they pair up like the
// digits of a binary counter, so log2 members + 1 partials are alive at most.
template <typename Partials>
class Tree {
 public:
  Tree(const Compute& compute, int head_dim, int members, std::vector<std::vector<float>>& spare)
      : compute_(compute), head_dim_(head_dim), members_(members), spare_(spare) {}

  void add(Partials leaf, int member) {
    waiting_.push_back({std::move(leaf), member});
    ++arrived_;
    for (int count = arrived_, modulus = members_; count % 2 == 0; count /= 2, modulus /= 2) {
      meet(modulus);
    }
  }

  Partials root() {
    check(arrived_ == members_ && waiting_.size() == 1 && !waiting_[0].partials.absent(), "a tree of partials is complete");
    return std::move(waiting_[0].partials);
  }

 private:
  struct Subtree {
    Partials partials;
    int member;  // one of its leaves; modulo the modulus of its level it names the subtree
  };

  void meet(int modulus) {
    Subtree second = std::move(waiting_.back());
    waiting_.pop_back();
    Subtree& first = waiting_.back();
    check((first.member - second.member) % (modulus / 2) == 0, "leaves arrive in bit-reversed order");
    if (second.member % modulus < first.member % modulus) {
      std::swap(first, second);
    }
    if (first.partials.absent()) {
      std::swap(first, second);
    } else if (!second.partials.absent()) {
      merge_partials(compute_, head_dim_, first.partials.view(), second.partials.view());
    }
    if (!second.partials.absent()) {
      spare_.push_back(second.partials.release());
    }
  }

  const Compute& compute_;
  int head_dim_, members_, arrived_ = 0;
  std::vector<std::vector<float>>& spare_;
  std::vector<Subtree> waiting_;
};

std::vector<float> taken(std::vector<std::vector<float>>& spare) {
  if (spare.empty()) {
    return {};
  }
  std::vector<float> memory = std::move(spare.back());
  spare.pop_back();
  return memory;
}

}  // namespace

// What is sent to and expected from every member in one exchange, packed in the order of the jobs.
class RingAttention::Wire {
 public:
  Wire(Communicator& ring, bool as_bf16)
      : ring_(ring), as_bf16_(as_bf16), out_(at(ring.size())), in_(at(ring.size())), read_(at(ring.size()), 0) {}

  void put_row(int member, const float* values, std::int64_t count) {
    to_wire(values, count, as_bf16_, extended(out_[at(member)], bytes(count)));
  }
  void expect_rows(int member, std::int64_t count) { extended(in_[at(member)], bytes(count)); }
  void take_row(int member, float* values, std::int64_t count) {
    std::size_t& read = read_[at(member)];
    from_wire(in_[at(member)].data() + read, count, as_bf16_, values);
    read += bytes(count);
  }
  void exchange(std::string_view what) {
    std::vector<SendPart> sends;
    std::vector<ReceivePart> receives;
    for (int member = 0; member < ring_.size(); ++member) {
      if (!out_[at(member)].empty()) {
        sends.push_back({member, out_[at(member)]});
      }
      if (!in_[at(member)].empty()) {
        receives.push_back({member, in_[at(member)]});
      }
    }
    ring_.exchange(sends, receives, what);
  }

 private:
  std::size_t bytes(std::int64_t values) const {
    return static_cast<std::size_t>(values) * (as_bf16_ ? sizeof(Bf16) : sizeof(float));
  }
  static std::byte* extended(std::vector<std::byte>& bytes, std::size_t more) {
    bytes.resize(bytes.size() + more);
    return bytes.data() + bytes.size() - more;
  }

  Communicator& ring_;
  bool as_bf16_;
  std::vector<std::vector<std::byte>> out_, in_;
  std::vector<std::size_t> read_;
};

RingAttention::RingAttention(Communicator& ring, Compute compute, const KvLayout& layout, RingPass pass)
    : ring_(ring), compute_(compute), layout_(layout), pass_(pass) {}

std::int64_t RingAttention::query_bytes(const KvLayout& layout, int heads, const RingJob& job) {
  const std::int64_t out = bytes_of(layout, std::int64_t{heads} * layout.head_dim);
  const auto home = static_cast<std::int64_t>(sizeof(float)) * heads * (2 + layout.head_dim);
  std::int64_t bytes = 0;
  for (int slot = 0; slot < job.span.members; ++slot) {
    bytes += rows_of(job, slot) * (out + home) * others(job, slot, [&](int other) { return has_pages(job, other); });
  }
  return bytes;
}

std::int64_t RingAttention::page_bytes(const KvLayout& layout, const RingJob& job) {
  std::int64_t visits = 0;
  for (int slot = 0; slot < job.span.members; ++slot) {
    visits += job.span.pages_of(slot, pages_of(job)) * others(job, slot, [&](int other) { return rows_of(job, other) > 0; });
  }
  return visits * static_cast<std::int64_t>(layout.page_bytes());
}

std::int64_t RingAttention::row_bytes(const KvLayout& layout, const RingJob& job) {
  std::int64_t rows = 0;
  for (std::int64_t token = job.first_token; token < job.first_token + job.tokens; ++token) {
    rows += job.span.owner(token / kPageTokens) != job.span.computes(token) ? 1 : 0;
  }
  return bytes_of(layout, 2 * rows * layout.kv_heads * layout.head_dim);
}

bool RingAttention::passes_pages(int heads, const RingJob& job, bool shared) const {
  if (pass_ != RingPass::kFewestBytes) {
    return pass_ == RingPass::kPages;
  }
  return shared ? job.tokens >= job.span.members * Span::kRunRows : page_bytes(layout_, job) < query_bytes(layout_, heads, job);
}

void RingAttention::check_job(const RingJob& job) const {
  const int member = ring_.rank();
  check(job.span.ring == ring_.size() && job.span.contains(member) && std::has_single_bit(static_cast<unsigned>(job.span.members)) &&
            job.span.members <= kPageClasses,
        "a ring job belongs to a member of its span");
  check_eq(job.q.rows, rows_of(job, job.span.slot_of(member)), "a ring job has the rows that are dealt to this member");
  check(job.k.rows == job.q.rows && job.v.rows == job.q.rows && job.out.rows == job.q.rows, "a ring job's q, k, v and out have the same rows");
  check(static_cast<std::int64_t>(job.block_table.size()) >= pages_of(job), "a ring job knows all its pages");
}

// A layer's pages are written once and read once in a step, and a step opens with a fence: one more, between the two, is
// enough.
void RingAttention::run(const RingPages& pages, int heads, std::span<const RingJob> jobs, bool opens_step) {
  std::vector<const RingJob*> by_queries, in_place;
  for (const RingJob& job : jobs) {
    check_job(job);
    const bool shared = pages.shared_by(job.span);
    if (!passes_pages(heads, job, shared)) {
      by_queries.push_back(&job);
    } else if (shared) {
      in_place.push_back(&job);
    }
  }
  if (opens_step) {
    fence(pages, jobs);
  }
  append(pages, jobs);
  fence(pages, jobs);
  attend_by_queries(pages.own, heads, by_queries);
  attend_in_place(pages, in_place);
  for (const RingJob& job : jobs) {
    if (!pages.shared_by(job.span) && passes_pages(heads, job, false)) {
      attend_by_pages(pages.own, heads, job);
    }
  }
}

// All members that share pages with this one in these jobs have come here: a message that says nothing, with the deadline
// and the names of those who are missing that every message has.
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
  ring_.exchange(sends, receives, "fence of shared pages");
}

// Own new rows straight into the pages that they belong to, whoever owns them.
void RingAttention::store(const RingPages& pages, const RingJob& job) {
  std::vector<KvSlot> slots;
  for (const std::int64_t token : tokens_of(job, job.span.slot_of(ring_.rank()))) {
    const std::int64_t page = token / kPageTokens;
    slots.push_back({pages.number(job.span.owner(page), job.block_table[static_cast<std::size_t>(page)]), static_cast<int>(token % kPageTokens)});
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
  Wire wire(ring_, compute_.rounds());
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
  wire.exchange("new K and V rows to the owners of their pages");
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
struct RingAttention::Pending {
  const RingJob* job;
  int slot;                             // whose rows
  std::vector<std::int64_t> positions;  // of them
  std::int64_t first = 0;               // among the rows of that member
  std::vector<float> q;                 // of another member
  Partials partials = {};               // over own pages
};

// Queries visit the members that have pages; each makes the partials of its subtree and sends them home.
void RingAttention::attend_by_queries(KvPages pages, int heads, std::span<const RingJob* const> jobs) {
  const int member = ring_.rank();
  const std::int64_t columns = std::int64_t{heads} * layout_.head_dim;
  std::int64_t rounds = 0;
  for (const RingJob* job : jobs) {
    for (int slot = 0; slot < job->span.members; ++slot) {
      rounds = std::max(rounds, div_ceil(rows_of(*job, slot), kQueryRows));
    }
  }
  for (std::int64_t round = 0; round < rounds; ++round) {
    Wire queries(ring_, compute_.rounds());
    std::vector<Pending> all;
    for (const RingJob* job : jobs) {
      const bool here = has_pages(*job, job->span.slot_of(member));
      for (int slot = 0; slot < job->span.members; ++slot) {
        auto tokens = tokens_of(*job, slot);
        const auto first = std::min(round * kQueryRows, static_cast<std::int64_t>(tokens.size()));
        const auto end = std::min(first + kQueryRows, static_cast<std::int64_t>(tokens.size()));
        if (first == end) {
          continue;
        }
        const bool own = job->span.member_at(slot) == member;
        for (int other = 0; own && other < job->span.members; ++other) {
          for (std::int64_t row = first; other != slot && has_pages(*job, other) && row < end; ++row) {
            queries.put_row(job->span.member_at(other), job->q.row(row), columns);
          }
        }
        if (!own && !here) {
          continue;
        }
        if (!own) {
          queries.expect_rows(job->span.member_at(slot), (end - first) * columns);
        }
        all.push_back({.job = job, .slot = slot, .positions = {tokens.begin() + first, tokens.begin() + end}, .first = first, .q = {}});
      }
    }
    queries.exchange("queries to the owners of pages");

    std::vector<SendPart> sends;
    std::vector<ReceivePart> receives;
    std::vector<std::vector<Partials>> home;  // of own rows, by pending and slot
    for (Pending& pending : all) {
      const RingJob& job = *pending.job;
      const int own_slot = job.span.slot_of(member);
      const auto rows = static_cast<std::int64_t>(pending.positions.size());
      const bool own = pending.slot == own_slot;
      if (!own) {
        pending.q.resize(static_cast<std::size_t>(rows * columns));
        for (std::int64_t row = 0; row < rows; ++row) {
          queries.take_row(job.span.member_at(pending.slot), pending.q.data() + row * columns, columns);
        }
      }
      if (has_pages(job, own_slot)) {
        pending.partials = Partials(taken(spare_), rows, heads, layout_.head_dim);
        const auto refs = page_refs(job, own_slot, job.span.members,
                                    [&](std::int64_t page, std::int64_t) { return job.block_table[static_cast<std::size_t>(page)]; });
        const Rows<const float> q = own ? job.q.slice(pending.first, rows) : Rows<const float>{pending.q.data(), rows, columns};
        attention_partials(compute_, layout_, pages, {.q = q, .positions = pending.positions, .pages = refs, .out = {}}, own_slot,
                           job.span.members, pending.partials.view());
      }
      home.emplace_back();
      if (!own) {
        sends.push_back({job.span.member_at(pending.slot), pending.partials.bytes()});
        continue;
      }
      home.back().resize(at(job.span.members));
      for (int slot = 0; slot < job.span.members; ++slot) {
        if (slot != own_slot && has_pages(job, slot)) {
          home.back()[at(slot)] = Partials(taken(spare_), rows, heads, layout_.head_dim);
          receives.push_back({job.span.member_at(slot), home.back()[at(slot)].bytes()});
        }
      }
    }
    ring_.exchange(sends, receives, "partials to the owners of queries");
    for (std::size_t i = 0; i < all.size(); ++i) {
      Pending& pending = all[i];
      const int own_slot = pending.job->span.slot_of(member);
      if (pending.slot != own_slot) {
        spare_.push_back(pending.partials.release());
        continue;
      }
      home[i][at(own_slot)] = std::move(pending.partials);
      const int members = pending.job->span.members;
      Tree<Partials> tree(compute_, layout_.head_dim, members, spare_);
      for (int turn = 0; turn < members; ++turn) {
        const int slot = reversed_bits(turn, members);
        tree.add(std::move(home[i][at(slot)]), slot);
      }
      Partials root = tree.root();
      finish_partials(compute_, layout_.head_dim, root.view(), pending.job->out.slice(pending.first, static_cast<std::int64_t>(pending.positions.size())));
      spare_.push_back(root.release());
    }
  }
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

// Pages visit the queries: in turn s, members whose slots differ by the reversed bits of s swap pages, a subtree of classes
// at a time when they are many.
void RingAttention::attend_by_pages(KvPages pages, int heads, const RingJob& job) {
  const int members = job.span.members;
  const int own_slot = job.span.slot_of(ring_.rank());
  const auto size = static_cast<std::int64_t>(layout_.page_bytes());
  const std::int64_t rows = job.q.rows;
  int parts = 1;
  while (members * parts < kPageClasses && div_ceil(job.span.pages_of(0, pages_of(job)), std::int64_t{parts}) * size > kVisitBytes) {
    parts *= 2;
  }
  const int leaves = members * parts;
  const auto positions = tokens_of(job, own_slot);
  Tree<Partials> tree(compute_, layout_.head_dim, leaves, spare_);
  for (int turn = 0; turn < leaves; ++turn) {
    const int leaf = own_slot ^ reversed_bits(turn, leaves);  // whose low bits are the slot that visits
    const int visitor = leaf % members;
    const auto at_home = [&](std::int64_t page, std::int64_t) { return std::int64_t{job.block_table[static_cast<std::size_t>(page)]}; };
    std::vector<PageRef> refs = page_refs(job, leaf, leaves, at_home);
    KvPages where = pages;
    if (visitor != own_slot) {
      const auto leaving = page_refs(job, leaf - visitor + own_slot, leaves, at_home);
      own_pages_.clear();
      if (rows_of(job, visitor) > 0) {
        own_pages_.resize(leaving.size() * layout_.page_bytes());
        for (std::size_t i = 0; i < leaving.size(); ++i) {
          std::copy_n(pages.page(leaving[i].page_id), size, own_pages_.data() + static_cast<std::int64_t>(i) * size);
        }
      }
      visiting_pages_.resize(rows > 0 ? refs.size() * layout_.page_bytes() : 0);
      std::vector<SendPart> sends;
      std::vector<ReceivePart> receives;
      if (!own_pages_.empty()) {
        sends.push_back({job.span.member_at(visitor), own_pages_});
      }
      if (!visiting_pages_.empty()) {
        receives.push_back({job.span.member_at(visitor), visiting_pages_});
      }
      ring_.exchange(sends, receives, "pages to the queries");
      for (std::size_t i = 0; i < refs.size(); ++i) {
        refs[i].page_id = static_cast<std::int64_t>(i);
      }
      where = {.layer_base = visiting_pages_.data(), .page_stride = layout_.page_bytes()};
    }
    Partials partials;
    if (rows > 0 && !refs.empty()) {
      partials = Partials(taken(spare_), rows, heads, layout_.head_dim);
      attention_partials(compute_, layout_, where, {.q = job.q, .positions = positions, .pages = refs, .out = {}}, leaf, leaves, partials.view());
    }
    tree.add(std::move(partials), leaf);
  }
  if (rows > 0) {
    Partials root = tree.root();
    finish_partials(compute_, layout_.head_dim, root.view(), job.out);
    spare_.push_back(root.release());
  }
}

}  // namespace zoetrope
