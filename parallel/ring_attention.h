// Attention of sequences whose pages lie on several members of the ring (docs/one-answer.md rule 4). New K and V rows
// go to the owners of their pages; then either the queries visit the members and partials come back (pass-Q), or the
// pages visit the queries (pass-KV). Both make the same partials and merge them in the same tree: the same bits as one
// member alone. Where the members of a span share the memory of their pages (ring_memory.h), new rows are stored
// straight into the owner's pages and a visit of pages is a pointer: all that travels is a fence.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/compute.h"
#include "parallel/communicator.h"
#include "parallel/host_memory.h"
#include "parallel/ring_cost.h"
#include "parallel/ring_memory.h"
#include "parallel/ring_partials.h"
#include "parallel/span.h"

namespace zoetrope {

// The rows of one step of a sequence that spans more than one member. Every member of the span has the job, also one
// without rows or pages; jobs of a step stand in the same order on all members.
struct RingJob {
  Span span;
  std::int64_t first_token = 0, tokens = 0;   // the step computes tokens [first_token, first_token + tokens)
  std::span<const std::int32_t> block_table;  // id of every page, valid on its owner
  Rows<const float> q;                        // [own rows, heads * head_dim], ascending token
  Rows<const float> k, v;                     // [own rows, kv_heads * head_dim]
  Rows<float> out;                            // [own rows, heads * head_dim]
};

// What travels. kFewestBytes takes, for each job, the one whose bytes on the wire (closed forms below) are fewer; where
// pages are shared they visit as soon as every member has rows to meet them. kLeastTime takes the quicker one by the
// rates that were measured (ring_cost.h), or by bytes where none are known.
enum class RingPass { kFewestBytes, kQueries, kPages, kLeastTime };

class RingAttention {
 public:
  // `ring`: the members, rank = member. All outlive the object but `compute`.
  RingAttention(Communicator& ring, Compute compute, const KvLayout& layout, RingPass pass = RingPass::kFewestBytes,
                const RingRates& rates = {});

  // Writes the new rows into their pages and attends. Called by every member that has jobs, with the pages of one
  // layer. `heads`: query heads of this rank. `opens_step`: the first layer of a step, whose jobs those of the others
  // are; no member stores into another's pages before that one, having opened them, has arrived too.
  void run(const RingPages& pages, int heads, std::span<const RingJob> jobs, bool opens_step);

  // Bytes that all members of the span together send for one layer: queries out and partials home, or pages out.
  static std::int64_t query_bytes(const KvLayout& layout, int heads, const RingJob& job);
  static std::int64_t page_bytes(const KvLayout& layout, const RingJob& job);
  // New K and V rows that go to another member.
  static std::int64_t row_bytes(const KvLayout& layout, const RingJob& job);
  // Memory of a member for pages that visit by messages, `pages` of the sequence in all: those of this turn and of the
  // next. The same for all layers, kept between steps.
  static std::int64_t visiting_bytes(const KvLayout& layout, const Span& span, std::int64_t pages);
  // One fence of the members of a span, which every layer has once, and a step once more, where pages are shared; then
  // no page and no row travels.
  static std::int64_t fence_bytes(const Span& span) { return std::int64_t{span.members} * (span.members - 1); }
  bool passes_pages(int heads, const RingJob& job, bool shared) const;
  // The job as the cost model sees it.
  static RingStep step_of(const KvLayout& layout, int heads, const RingJob& job, bool shared);
  const RingRates& rates() const { return rates_; }
  // What decides for spans whose members see each other's pages, where others do not; the same at every member.
  void set_host_rates(const RingRates& rates) { host_rates_ = rates; }
  // The most partials of one row that have existed at once on its member and on the way to it.
  int partials_alive_max() const { return partials_alive_max_; }

 private:
  struct Round;
  struct Turn;
  struct Visit;
  struct Share;

  void check_job(const RingJob& job) const;
  void fence(const RingPages& pages, std::span<const RingJob> jobs);
  void append(const RingPages& pages, std::span<const RingJob> jobs);
  void store(const RingPages& pages, const RingJob& job);
  void attend_by_queries(KvPages pages, int heads, std::span<const RingJob* const> jobs);
  std::unique_ptr<Round> begin(std::int64_t index, int heads, std::span<const RingJob* const> jobs);
  void answer(KvPages pages, int heads, std::span<const RingJob* const> jobs, Round& round, Exchange* next);
  Partials partials_of(const Compute& compute, KvPages pages, int heads, const Share* share);
  void take_home(Turn& turn, std::vector<PartialsTree>& trees);
  void finish(PartialsTree& tree, Rows<float> out);
  Visit begin_visit(KvPages pages, const RingJob& job, int turn, int leaves);
  void attend_by_pages(KvPages pages, int heads, const RingJob& job);
  void attend_in_place(const RingPages& pages, std::span<const RingJob* const> jobs);

  Communicator& ring_;
  Compute compute_;
  KvLayout layout_;
  RingPass pass_;
  RingRates rates_, host_rates_;
  std::vector<float> rows_;  // K and V rows for own pages
  // Where pages visit, of this turn and of the next. In huge pages: attention reads them as fast as those at home.
  struct VisitMemory {
    std::unique_ptr<HostMemory> memory;
    std::span<std::byte> bytes;
    std::byte* at_least(std::size_t count);
  };
  std::array<VisitMemory, 2> visiting_pages_;
  SparePartials spare_;
  int partials_alive_max_ = 0;
  std::vector<bool> by_pages_;  // jobs of this step
};

}  // namespace zoetrope
