#include "tests/parallel/ring_attention_suite.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <random>
#include <tuple>

#include "kernels/body.h"
#include "parallel/collectives.h"
#include "parallel/ring_attention.h"

namespace zoetrope {
namespace {

struct Shape {
  int heads = 4, kv_heads = 2, head_dim = 24;
  std::int64_t columns() const { return std::int64_t{heads} * head_dim; }
  std::int64_t kv_columns() const { return std::int64_t{kv_heads} * head_dim; }
};

// q, k and v of a whole sequence: the same on every rank.
struct Inputs {
  std::vector<float> q, k, v;
  std::int64_t tokens = 0;
  Shape shape;

  Inputs(const Shape& shape_, std::int64_t tokens_, Precision precision, unsigned seed)
      : tokens(tokens_), shape(shape_) {
    std::mt19937 random(seed);
    const auto fill = [&](std::vector<float>& values, std::int64_t columns) {
      for (std::int64_t i = 0; i < tokens * columns; ++i) {
        const float value = static_cast<float>(static_cast<std::int32_t>(random())) * 0x1p-30F;
        values.push_back(precision == Precision::kBf16 ? round_bf16(value) : value);
      }
    };
    fill(q, shape.columns());
    fill(k, shape.kv_columns());
    fill(v, shape.kv_columns());
  }
};

// Page memory of one member whose pages hold stale NaN until they are opened.
class Pages {
 public:
  Pages(const KvLayout& layout, std::int64_t pages)
      : layout_(layout), memory_(static_cast<std::size_t>(pages) * layout.page_bytes() / sizeof(float)) {
    std::fill(memory_.begin(), memory_.end(), std::numeric_limits<float>::quiet_NaN());
  }
  // Beside those of the other members when they are shared. Collective.
  Pages(const KvLayout& layout, std::int64_t pages, Communicator& ring, RingTransport transport)
      : Pages(layout, transport == RingTransport::kShared ? 0 : pages) {
    if (transport == RingTransport::kShared) {
      shared_ = RingMemory(ring, "one host", static_cast<std::size_t>(pages) * layout.page_bytes(), transport);
      for (const int place : shared_.places()) {
        first_page_.push_back(place * pages);
      }
      for (std::size_t at = 0; at < shared_.own().size(); at += sizeof(float)) {
        const float stale = std::numeric_limits<float>::quiet_NaN();
        std::memcpy(shared_.own().data() + at, &stale, sizeof(stale));
      }
    }
  }
  void open(std::int64_t page) { std::memset(view().page(page), 0, layout_.page_bytes()); }
  KvPages view() {
    return {shared_.own().empty() ? reinterpret_cast<std::byte*>(memory_.data()) : shared_.own().data(),
            layout_.page_bytes()};
  }
  RingPages of_ring() {
    return {.own = view(), .all = {shared_.pools().data(), layout_.page_bytes()}, .first_page = first_page_};
  }

 private:
  KvLayout layout_;
  std::vector<float> memory_;
  RingMemory shared_;
  std::vector<std::int64_t> first_page_;
};

// What one member that has everything answers for all tokens.
std::vector<float> alone(const Compute& compute, const KvLayout& layout, const Inputs& inputs) {
  const Shape& shape = inputs.shape;
  const std::int64_t count = div_ceil(inputs.tokens, std::int64_t{kPageTokens});
  Pages pages(layout, count);
  std::vector<KvSlot> slots;
  std::vector<std::int64_t> positions;
  std::vector<PageRef> refs;
  for (std::int64_t page = 0; page < count; ++page) {
    pages.open(page);
    refs.push_back({page, page * kPageTokens, static_cast<int>(page % kPageClasses),
                    static_cast<int>(std::min<std::int64_t>(kPageTokens, inputs.tokens - page * kPageTokens))});
  }
  for (std::int64_t token = 0; token < inputs.tokens; ++token) {
    slots.push_back({token / kPageTokens, static_cast<int>(token % kPageTokens)});
    positions.push_back(token);
  }
  append_kv(compute, layout, pages.view(), {inputs.k.data(), inputs.tokens, shape.kv_columns()},
            {inputs.v.data(), inputs.tokens, shape.kv_columns()}, slots);
  std::vector<float> out(inputs.q.size());
  const AttentionJob job{.q = {inputs.q.data(), inputs.tokens, shape.columns()},
                         .positions = positions,
                         .pages = refs,
                         .out = {out.data(), inputs.tokens, shape.columns()}};
  attention(compute, layout, pages.view(), std::span(&job, 1));
  return out;
}

// The same, once for all ranks that are threads of this process.
const std::vector<float>& answer_of_one(const Compute& compute, const KvLayout& layout, const Inputs& inputs) {
  static std::mutex mutex;
  static std::map<std::tuple<std::int64_t, Precision, int>, std::vector<float>> known;
  const std::lock_guard lock(mutex);
  std::vector<float>& answer = known[{inputs.tokens, layout.precision, inputs.shape.head_dim}];
  if (answer.empty()) {
    answer = alone(compute, layout, inputs);
  }
  return answer;
}

std::uint64_t sum_over_ranks(Communicator& comm, std::uint64_t own) {
  std::uint64_t sum = 0;
  for (const auto& bytes : all_gather(comm, std::as_bytes(std::span(&own, 1)), "a test's sum")) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), sizeof(value));
    sum += value;
  }
  return sum;
}

// One sequence on this member of its span, fed by chunks.
class Member {
 public:
  Member(Communicator& ring, const Compute& compute, const KvLayout& layout, const Span& span, const Inputs& inputs,
         RingPass pass, RingTransport transport)
      : ring_(ring),
        layout_(layout),
        span_(span),
        inputs_(inputs),
        attention_(ring, compute, layout, pass),
        pages_(layout, div_ceil(inputs.tokens, std::int64_t{kPageTokens}) + 1, ring,
               ring.size() == 1 ? RingTransport::kMessages : transport) {}

  // Computes tokens [first, end) with the other members; own rows must be those of `expected`. Returns the bytes that
  // the closed forms name for all members, 0 for one that is not in the span.
  std::uint64_t step(std::int64_t first, std::int64_t end, const std::vector<float>& expected) {
    if (!span_.contains(ring_.rank())) {
      return 0;
    }
    const Shape& shape = inputs_.shape;
    while (static_cast<std::int64_t>(table_.size()) * kPageTokens < end) {
      // Ids of an owner are dealt downwards from the last, so that a mistaken id meets NaN.
      const auto page = static_cast<std::int64_t>(table_.size());
      table_.push_back(
          static_cast<std::int32_t>(div_ceil(inputs_.tokens, std::int64_t{kPageTokens}) - page / span_.members));
      if (span_.owner(page) == ring_.rank()) {
        pages_.open(table_.back());
      }
    }
    std::vector<float> q, k, v;
    std::vector<std::int64_t> own;
    for (std::int64_t token = first; token < end; ++token) {
      if (span_.computes(token) == ring_.rank()) {
        own.push_back(token);
        q.insert(q.end(), inputs_.q.begin() + token * shape.columns(),
                 inputs_.q.begin() + (token + 1) * shape.columns());
        k.insert(k.end(), inputs_.k.begin() + token * shape.kv_columns(),
                 inputs_.k.begin() + (token + 1) * shape.kv_columns());
        v.insert(v.end(), inputs_.v.begin() + token * shape.kv_columns(),
                 inputs_.v.begin() + (token + 1) * shape.kv_columns());
      }
    }
    const auto rows = static_cast<std::int64_t>(own.size());
    EXPECT_EQ(rows, span_.rows_of(span_.slot_of(ring_.rank()), first, end));
    std::vector<float> out(q.size());
    const RingJob job{.span = span_,
                      .first_token = first,
                      .tokens = end - first,
                      .block_table = table_,
                      .q = {q.data(), rows, shape.columns()},
                      .k = {k.data(), rows, shape.kv_columns()},
                      .v = {v.data(), rows, shape.kv_columns()},
                      .out = {out.data(), rows, shape.columns()}};
    const bool shared = pages_.of_ring().shared_by(span_);
    attention_.run(pages_.of_ring(), shape.heads, std::span(&job, 1), true);
    for (std::size_t row = 0; row < own.size(); ++row) {
      const std::size_t bytes = static_cast<std::size_t>(shape.columns()) * sizeof(float);
      EXPECT_EQ(std::memcmp(out.data() + row * static_cast<std::size_t>(shape.columns()),
                            expected.data() + own[row] * shape.columns(), bytes),
                0)
          << "token " << own[row] << " of " << first << " .. " << end << ", " << span_.members << " members from "
          << span_.first_member;
    }
    EXPECT_LE(attention_.partials_alive_max(), std::countr_zero(static_cast<unsigned>(span_.members)) + 1);
    const bool by_pages = attention_.passes_pages(shape.heads, job, shared);
    const std::int64_t visits = !by_pages ? RingAttention::query_bytes(layout_, shape.heads, job)
                                : shared  ? 0
                                          : RingAttention::page_bytes(layout_, job);
    const std::int64_t rest = shared ? 2 * RingAttention::fence_bytes(span_) : RingAttention::row_bytes(layout_, job);
    return ring_.rank() == span_.first_member ? static_cast<std::uint64_t>(visits + rest) : 0;
  }

  int partials_alive_max() const { return attention_.partials_alive_max(); }

 private:
  Communicator& ring_;
  KvLayout layout_;
  Span span_;
  const Inputs& inputs_;
  RingAttention attention_;
  Pages pages_;
  std::vector<std::int32_t> table_;
};

void check_sequence(Communicator& ring, const Span& span, std::int64_t tokens, std::int64_t chunk, RingPass pass,
                    Precision precision, RingTransport transport, const Shape& shape = {}) {
  ThreadPool pool(1);
  const Compute compute{&body(best_body()), &pool, precision};
  const KvLayout layout{.kv_heads = shape.kv_heads, .head_dim = shape.head_dim, .precision = precision};
  const Inputs inputs(shape, tokens, precision, static_cast<unsigned>(tokens));
  const std::vector<float>& expected = answer_of_one(compute, layout, inputs);
  Member member(ring, compute, layout, span, inputs, pass, transport);
  const std::uint64_t before = ring.traffic().bytes;
  std::uint64_t form = 0;
  for (std::int64_t first = 0; first < tokens; first += chunk) {
    form += member.step(first, std::min(tokens, first + chunk), expected);
  }
  if (tokens > kPageTokens * span.members && transport == RingTransport::kMessages && span.contains(ring.rank())) {
    EXPECT_EQ(member.partials_alive_max(),
              std::countr_zero(static_cast<unsigned>(span.members)) + 1);  // no fewer will do
  }
  const std::uint64_t sent = ring.traffic().bytes - before;
  const std::uint64_t all_sent = sum_over_ranks(ring, sent), all_form = sum_over_ranks(ring, form);
  EXPECT_EQ(all_sent, all_form) << tokens << " tokens over " << span.members << " members in chunks of " << chunk;
}

}  // namespace

void check_ring_attention(Communicator& ring, RingTransport transport) {
  for (int members = 1; members <= ring.size(); members *= 2) {
    const Span span{.members = members, .first_member = ring.size() - 1, .ring = ring.size()};
    for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
      for (const RingPass pass : {RingPass::kQueries, RingPass::kPages, RingPass::kFewestBytes}) {
        check_sequence(ring, span, 700, 257, pass, precision, transport);
        check_sequence(ring, span, 255, 255, pass, precision, transport);
        check_sequence(ring, span, 257, 300, pass, precision, transport);
      }
    }
    check_sequence(ring, span, 256, members > 2 ? 37 : 1, RingPass::kQueries, Precision::kBf16, transport);
    const Shape narrow{.heads = 1, .kv_heads = 1, .head_dim = 8};
    check_sequence(ring, span, std::int64_t{kPageTokens} * members, 4096, RingPass::kQueries, Precision::kBf16,
                   transport, narrow);
    if (members == 2 || members * 2 > ring.size()) {  // classes that wrap
      for (const RingPass pass : {RingPass::kQueries, RingPass::kPages}) {
        check_sequence(ring, span, 66 * kPageTokens + 3, 9000, pass, Precision::kBf16, transport, narrow);
      }
    }
  }
}

void check_that_decode_traffic_is_flat(Communicator& ring) {
  ThreadPool pool(1);
  const Compute compute{&body(best_body()), &pool, Precision::kBf16};
  const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = 16};
  const KvLayout layout{.kv_heads = shape.kv_heads, .head_dim = shape.head_dim, .precision = Precision::kBf16};
  int members = 1;
  while (members * 2 <= ring.size()) {
    members *= 2;
  }
  const Span span{.members = members, .first_member = 0, .ring = ring.size()};
  for (const std::int64_t context : {members * 256, members * 768}) {
    const Inputs inputs(shape, context + 1, Precision::kBf16, 3);
    const std::vector<float> expected = alone(compute, layout, inputs);
    Member member(ring, compute, layout, span, inputs, RingPass::kFewestBytes, RingTransport::kMessages);
    member.step(0, context, expected);
    const std::uint64_t before = ring.traffic().bytes;
    member.step(context, context + 1, expected);
    const std::uint64_t sent = sum_over_ranks(ring, ring.traffic().bytes - before);
    const auto visits =
        static_cast<std::uint64_t>((members - 1) * shape.heads * ((2 + shape.head_dim) * 4 + shape.head_dim * 2));
    const bool moves = span.owner(context / kPageTokens) != span.computes(context);
    EXPECT_EQ(sent, visits + (moves ? static_cast<std::uint64_t>(2 * shape.kv_columns() * 2) : 0U)) << context;
  }
}

}  // namespace zoetrope
