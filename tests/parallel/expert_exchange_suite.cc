#include "tests/parallel/expert_exchange_suite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "parallel/collectives.h"

namespace zoetrope {
namespace {

std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

enum class Routing { kUniform, kZipf, kLowest, kOneExpertSet };
enum class Placed { kContiguous, kPermuted, kReplicated };

struct Case {
  int experts = 8;
  std::int64_t k = 2;
  std::int64_t hidden = 16;
  Precision precision = Precision::kBf16;
  Routing routing = Routing::kUniform;
  Placed placed = Placed::kContiguous;
  unsigned seed = 0;
  std::int64_t tokens = -1;  // on every rank; -1: some, and on some ranks none
  bool shards = false;       // the experts are shards, whose partials are any fp32 numbers
};

// What lives on one rank in one step.
struct Tokens {
  std::vector<float> x;
  std::vector<std::int32_t> experts;
  std::int64_t count = 0;
};

Tokens tokens_of(const Case& c, int rank, int step) {
  std::mt19937 random(c.seed * 7919 + static_cast<unsigned>(rank) * 101 + static_cast<unsigned>(step));
  Tokens tokens;
  tokens.count = (rank + step) % 3 == 1 ? 0 : static_cast<std::int64_t>(random() % 23);  // some have no work
  tokens.count = c.tokens < 0 ? tokens.count : c.tokens;
  std::vector<std::int32_t> order(size_of(c.experts));
  for (std::int64_t t = 0; t < tokens.count; ++t) {
    std::iota(order.begin(), order.end(), 0);
    if (c.routing != Routing::kOneExpertSet) {
      std::shuffle(order.begin(), order.end(), random);
    }
    if (c.routing == Routing::kLowest) {  // all tokens want the lowest experts, in any order
      std::partial_sort(order.begin(), order.begin() + c.k, order.end());
      std::shuffle(order.begin(), order.begin() + c.k, random);
    }
    if (c.routing ==
        Routing::kZipf) {  // expert e with a weight of 1 / (e + 1), without repeats: the k least of Exp(1) / weight
      std::vector<double> turn(order.size());
      for (std::size_t e = 0; e < turn.size(); ++e) {
        turn[e] = -std::log((random() + 1.0) / 4294967297.0) * static_cast<double>(e + 1);
      }
      std::ranges::sort(order, [&](std::int32_t a, std::int32_t b) { return turn[size_of(a)] < turn[size_of(b)]; });
    }
    tokens.experts.insert(tokens.experts.end(), order.begin(), order.begin() + c.k);
    for (std::int64_t h = 0; h < c.hidden; ++h) {
      const float value = static_cast<float>(static_cast<std::int32_t>(random())) / 65536.0f;
      tokens.x.push_back(c.precision == Precision::kBf16 ? round_bf16(value) : value);
    }
  }
  return tokens;
}

// What expert e makes of a value: differs for every expert, and rounds in bf16 mode as experts do.
float made_by(const Case& c, int e, float value) {
  const float made = value * static_cast<float>(e + 2) + static_cast<float>(e);
  return c.precision == Precision::kBf16 && !c.shards ? round_bf16(made) : made + (c.shards ? 1.0F / 3 : 0.0F);
}

ExpertTable table_of(const Case& c, int ranks) {
  ExpertTable table;
  if (c.experts >= ranks) {
    table = ExpertTable::contiguous(c.experts, ranks);
  } else {
    table.ranks_of.assign(size_of(c.experts), {ranks - 1});  // ranks without experts
  }
  std::mt19937 random(c.seed);
  if (c.placed != Placed::kContiguous) {
    std::shuffle(table.ranks_of.begin(), table.ranks_of.end(), random);
  }
  if (c.placed == Placed::kReplicated) {
    for (auto& ranks_of : table.ranks_of) {
      for (int rank = 0; rank < ranks; ++rank) {
        if (random() % 3 == 0 && rank != ranks_of[0]) {
          ranks_of.push_back(rank);
        }
      }
      std::ranges::sort(ranks_of);
    }
  }
  return table;
}

Rows<const std::int32_t> experts_of(const Case& c, const Tokens& tokens) {
  return {tokens.experts.data(), tokens.count, c.k};
}

// Tokens and pairs that `from` sends to `to`: own experts are served at home, others by their replicas in turn over
// homes.
struct Load {
  std::uint64_t tokens = 0;
  std::uint64_t pairs = 0;
};
int served_at(const ExpertTable& table, int expert, int home) {
  const auto& replicas = table.ranks_of[size_of(expert)];
  return std::ranges::count(replicas, home) > 0 ? home : replicas[size_of(home) % replicas.size()];
}

Load load(const Case& c, const ExpertTable& table, const Tokens& tokens, int from, int to) {
  Load sum;
  for (std::int64_t t = 0; t < tokens.count; ++t) {
    std::uint64_t pairs = 0;
    for (std::int64_t j = 0; j < c.k; ++j) {
      pairs += served_at(table, tokens.experts[size_of(t * c.k + j)], from) == to ? 1 : 0;
    }
    sum.pairs += pairs;
    sum.tokens += pairs > 0 ? 1 : 0;
  }
  return sum;
}

// Own tokens, then every token of another rank that needs this one, once; and for each local expert which of them.
void check_arrived(const Case& c, const ExpertTable& table, const std::vector<Tokens>& all, int rank,
                   const ExpertExchange::Arrived& arrived) {
  const std::vector<int> local = table.experts_of(rank);
  std::vector<std::vector<std::int32_t>> rows(local.size());
  std::vector<float> x;
  std::int32_t row = 0;
  std::vector<int> homes(all.size());
  std::iota(homes.begin(), homes.end(), 0);
  std::rotate(homes.begin(), homes.begin() + rank, homes.begin() + rank + 1);
  for (const int home : homes) {
    const Tokens& tokens = all[size_of(home)];
    for (std::int64_t t = 0; t < tokens.count; ++t) {
      bool needed = home == rank;
      for (std::size_t e = 0; e < local.size(); ++e) {
        const auto first = tokens.experts.begin() + t * c.k;
        if (std::find(first, first + c.k, local[e]) != first + c.k && served_at(table, local[e], home) == rank) {
          rows[e].push_back(row);
          needed = true;
        }
      }
      if (needed) {
        x.insert(x.end(), tokens.x.begin() + t * c.hidden, tokens.x.begin() + (t + 1) * c.hidden);
        ++row;
      }
    }
  }
  ASSERT_EQ(arrived.x.rows, row);
  for (std::int64_t r = 0; r < row; ++r) {
    ASSERT_TRUE(std::equal(arrived.x.row(r), arrived.x.row(r) + c.hidden, x.begin() + r * c.hidden)) << "row " << r;
  }
  ASSERT_TRUE(std::ranges::equal(arrived.rows, rows));
  std::int64_t outputs = 0;
  for (std::size_t e = 0; e < local.size(); ++e) {
    ASSERT_EQ(arrived.first[e], outputs);
    outputs += static_cast<std::int64_t>(rows[e].size());
  }
  ASSERT_EQ(arrived.outputs, outputs);
}

void make_outputs(const Case& c, const ExpertTable& table, int rank, const ExpertExchange::Arrived& arrived,
                  Rows<float> outputs) {
  const std::vector<int> local = table.experts_of(rank);
  ASSERT_EQ(outputs.rows, arrived.outputs);
  for (std::size_t e = 0; e < local.size(); ++e) {
    for (std::size_t i = 0; i < arrived.rows[e].size(); ++i) {
      for (std::int64_t h = 0; h < c.hidden; ++h) {
        outputs.row(arrived.first[e] + static_cast<std::int64_t>(i))[h] =
            made_by(c, local[e], arrived.x.row(arrived.rows[e][i])[h]);
      }
    }
  }
}

void check_home(const Case& c, const Tokens& mine, const ExpertExchange::Home& home) {
  ASSERT_EQ(home.slots.rows, mine.count);
  ASSERT_EQ(home.slots.columns, c.k);
  std::vector<bool> used(size_of(home.outputs.rows), false);
  for (std::int64_t t = 0; t < mine.count; ++t) {
    for (std::int64_t j = 0; j < c.k; ++j) {
      const std::int32_t slot = home.slots.row(t)[j];
      ASSERT_TRUE(slot >= 0 && slot < home.outputs.rows && !used[size_of(slot)]);
      used[size_of(slot)] = true;
      for (std::int64_t h = 0; h < c.hidden; ++h) {
        ASSERT_EQ(home.outputs.row(slot)[h],
                  made_by(c, mine.experts[size_of(t * c.k + j)], mine.x[size_of(t * c.hidden + h)]))
            << "token " << t << " expert " << j;
      }
    }
  }
}

class Meter {
 public:
  Meter(Communicator& comm, const SentByPeer& sent) : comm_(comm), sent_(sent), before_(now()) {}
  // Bytes since the last call must be `expected`, peer by peer where that is measured.
  void expect(const std::vector<std::uint64_t>& expected, const char* what) {
    const auto after = now();
    const std::uint64_t total = std::accumulate(expected.begin(), expected.end(), std::uint64_t{0});
    EXPECT_EQ(after.total - before_.total, total) << what;
    for (std::size_t peer = 0; peer < after.by_peer.size(); ++peer) {
      EXPECT_EQ(after.by_peer[peer] - before_.by_peer[peer], expected[peer]) << what << " to rank " << peer;
    }
    before_ = after;
  }

 private:
  struct Reading {
    std::uint64_t total = 0;
    std::vector<std::uint64_t> by_peer;
  };
  Reading now() const { return {comm_.traffic().bytes, sent_ ? sent_() : std::vector<std::uint64_t>{}}; }
  Communicator& comm_;
  const SentByPeer& sent_;
  Reading before_;
};

Compute compute_of(ThreadPool& pool, Precision precision) { return {nullptr, &pool, precision}; }

// Two layers with tables of their own, several steps: buffers are used again.
void check_case(Communicator& comm, const Case& c, const SentByPeer& sent) {
  Case other = c;
  other.placed = c.placed == Placed::kReplicated ? Placed::kPermuted : Placed::kReplicated;
  other.seed += 1000;
  const std::vector<ExpertTable> tables{table_of(c, comm.size()), table_of(other, comm.size())};
  ThreadPool pool(c.seed % 4 == 0 ? 2 : 1);
  ExpertExchange exchange(comm, compute_of(pool, c.precision), c.hidden, {tables, c.shards ? 2 : 1});
  const std::uint64_t row_bytes = size_of(c.hidden) * (c.precision == Precision::kBf16 ? 2 : 4);
  const std::uint64_t index_bytes = c.experts > 256 ? 2 : 1;
  for (int step = 0; step < 4; ++step) {
    const int layer = step % 2;
    const ExpertTable& table = tables[size_of(layer)];
    std::vector<Tokens> all;
    for (int rank = 0; rank < comm.size(); ++rank) {
      all.push_back(tokens_of(c, rank, step));
    }
    const Tokens& mine = all[size_of(comm.rank())];
    std::vector<std::uint64_t> dispatch_bytes(size_of(comm.size()), 0);
    std::vector<std::uint64_t> combine_bytes = dispatch_bytes;
    std::vector<std::int64_t> home_by_rank(size_of(comm.size()), 0);
    for (int peer = 0; peer < comm.size(); ++peer) {
      const Load out = load(c, table, mine, comm.rank(), peer);
      const Load in = load(c, table, all[size_of(peer)], peer, comm.rank());
      home_by_rank[size_of(peer)] = static_cast<std::int64_t>(in.pairs);
      if (peer != comm.rank()) {
        dispatch_bytes[size_of(peer)] = 8 + out.tokens * (row_bytes + 1) + index_bytes * out.pairs;
        combine_bytes[size_of(peer)] = in.pairs * (c.shards ? size_of(c.hidden) * 4 : row_bytes);
      }
    }
    const auto form = exchange.closed_form(experts_of(c, mine), home_by_rank, layer);
    Meter meter(comm, sent);
    std::ranges::copy(mine.x, exchange.own_rows(mine.count).data);
    const auto& arrived = exchange.dispatch(experts_of(c, mine), layer);
    meter.expect(dispatch_bytes, "dispatch");
    EXPECT_EQ(form.dispatch_payload + form.dispatch_headers,
              std::accumulate(dispatch_bytes.begin(), dispatch_bytes.end(), std::uint64_t{0}));
    check_arrived(c, table, all, comm.rank(), arrived);
    EXPECT_EQ(arrived.outputs_by_rank, home_by_rank);
    make_outputs(c, table, comm.rank(), arrived, exchange.outputs());
    const auto home = exchange.combine();
    meter.expect(combine_bytes, "combine");
    EXPECT_EQ(form.combine_payload, std::accumulate(combine_bytes.begin(), combine_bytes.end(), std::uint64_t{0}));
    check_home(c, mine, home);
  }
}

// Bytes of a whole exchange over all ranks, as counted by the communicators.
std::uint64_t counted_bytes(Communicator& comm, const Case& c, ExpertExchange& exchange, const ExpertTable& table,
                            const Tokens& mine) {
  const std::uint64_t before = comm.traffic().bytes;
  std::ranges::copy(mine.x, exchange.own_rows(mine.count).data);
  const auto& arrived = exchange.dispatch(experts_of(c, mine));
  make_outputs(c, table, comm.rank(), arrived, exchange.outputs());
  exchange.combine();
  const std::uint64_t own = comm.traffic().bytes - before;
  std::uint64_t total = 0;
  for (const auto& bytes : all_gather(comm, std::as_bytes(std::span(&own, 1)), "bytes of an exchange")) {
    std::uint64_t part = 0;
    std::memcpy(&part, bytes.data(), sizeof(part));
    total += part;
  }
  return total;
}

}  // namespace

void check_expert_exchange(Communicator& comm, const SentByPeer& sent) {
  unsigned seed = 1;
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    for (const Routing routing : {Routing::kUniform, Routing::kZipf, Routing::kLowest, Routing::kOneExpertSet}) {
      for (const int experts : {8, 11, 31}) {  // 11 and 31 do not divide
        for (const std::int64_t k : {1, 2, 3, 5, 8}) {
          SCOPED_TRACE(testing::Message() << "experts " << experts << " k " << k << " seed " << seed);
          check_case(comm, {experts, k, 16, precision, routing, static_cast<Placed>(seed % 3), seed}, sent);
          ++seed;
          if (testing::Test::HasFatalFailure()) {
            return;
          }
        }
      }
    }
    check_case(comm, {4, 4, 33, precision, Routing::kUniform, Placed::kPermuted, seed++},
               sent);  // all experts, odd width
    check_case(comm, {1, 1, 8, precision, Routing::kUniform, Placed::kContiguous, seed++},
               sent);                      // ranks without experts
    for (const std::int64_t k : {2, 8}) {  // two shards of each chosen expert
      check_case(comm, {32, k, 16, precision, Routing::kUniform, Placed::kPermuted, seed++, -1, true}, sent);
    }
    check_case(comm, {64, 8, 2048, precision, Routing::kUniform, Placed::kPermuted, seed++},
               sent);  // messages beyond the eager limit
  }
  // More than 256 experts on one rank: the index of an expert takes two bytes.
  const Case wide{.experts = 300 * comm.size(), .k = 4, .hidden = 8};
  ThreadPool pool(1);
  const ExpertTable table = table_of(wide, comm.size());
  ExpertExchange exchange(comm, compute_of(pool, wide.precision), wide.hidden, {{table}});
  const std::vector<Tokens> all = [&] {
    std::vector<Tokens> tokens;
    for (int rank = 0; rank < comm.size(); ++rank) {
      tokens.push_back(tokens_of(wide, rank, 0));
    }
    return tokens;
  }();
  const Tokens& mine = all[size_of(comm.rank())];
  std::ranges::copy(mine.x, exchange.own_rows(mine.count).data);
  const auto& arrived = exchange.dispatch(experts_of(wide, mine));
  check_arrived(wide, table, all, comm.rank(), arrived);
  make_outputs(wide, table, comm.rank(), arrived, exchange.outputs());
  check_home(wide, mine, exchange.combine());
}

// The least that rule 3 allows: every token once to each other rank that serves it, every such pair once home.
void check_expert_exchange_bytes(Communicator& comm) {
  constexpr std::int64_t kHidden = 128;
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    for (const Routing routing : {Routing::kUniform, Routing::kZipf, Routing::kLowest}) {
      for (const auto& [tokens, k] : {std::pair{1, 8}, {8, 1}, {8, 8}, {64, 2}, {64, 8}}) {
        for (const Placed placed : {Placed::kContiguous, Placed::kReplicated}) {
          const Case c{128, k, kHidden, precision, routing, placed, 77, tokens};
          const ExpertTable table = table_of(c, comm.size());
          ThreadPool pool(1);
          ExpertExchange exchange(comm, compute_of(pool, precision), kHidden, {{table}});
          std::uint64_t least = 0;
          for (int from = 0; from < comm.size(); ++from) {
            const Tokens theirs = tokens_of(c, from, 0);
            for (int to = 0; to < comm.size(); ++to) {
              const Load sent = from == to ? Load{} : load(c, table, theirs, from, to);
              least += (sent.tokens + sent.pairs) * kHidden * (precision == Precision::kBf16 ? 2 : 4);
            }
          }
          const std::uint64_t counted = counted_bytes(comm, c, exchange, table, tokens_of(c, comm.rank(), 0));
          // Counts go to every rank whether it is needed or not; what they add is bounded apart where next to nothing
          // travels.
          const std::uint64_t counts = 8 * size_of(comm.size()) * size_of(comm.size() - 1);
          EXPECT_GE(counted, least);
          EXPECT_LE(static_cast<double>(counted - counts), 1.01 * static_cast<double>(least));
          if (tokens > 1 && least > 0 && placed == Placed::kContiguous) {
            EXPECT_LE(static_cast<double>(counted), 1.05 * static_cast<double>(least))
                << comm.size() << " ranks, " << tokens << " tokens, top " << k << ", routing "
                << static_cast<int>(routing);
          }
        }
      }
    }
  }
}

bool is_dispatch_of(const ExpertExchange::ClosedForm& form, std::uint64_t bytes_sent) {
  return bytes_sent == form.dispatch_payload + form.dispatch_headers;
}

std::uint64_t all_gather_posing_as_dispatch(Communicator& comm, Rows<const float> x, Precision precision) {
  const std::uint64_t before = comm.traffic().bytes;
  const std::size_t bytes = size_of(x.rows * x.columns) * (precision == Precision::kBf16 ? 2 : 4);
  const std::vector<std::byte> out(bytes);
  std::vector<std::vector<std::byte>> in(size_of(comm.size()), std::vector<std::byte>(bytes));
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (int r = 0; r < comm.size(); ++r) {
    sends.push_back({r, out});
    receives.push_back({r, in[size_of(r)]});
  }
  comm.exchange(sends, receives, "all-gather posing as dispatch");
  return comm.traffic().bytes - before;
}

void check_that_the_mutant_is_caught(Communicator& comm) {
  const Case c{.experts = 4 * comm.size(), .k = 4, .hidden = 256};
  const ExpertTable table = table_of(c, comm.size());
  Tokens tokens;
  tokens.count = 12;
  tokens.x.assign(size_of(tokens.count * c.hidden), 1.5f);
  for (std::int64_t t = 0; t < tokens.count; ++t) {  // half of the tokens want this rank, half the next
    const int rank = static_cast<int>((comm.rank() + t % 2) % comm.size());
    for (const int e : table.experts_of(rank)) {
      tokens.experts.push_back(e);
    }
  }
  ThreadPool pool(1);
  ExpertExchange exchange(comm, compute_of(pool, c.precision), c.hidden, {{table}});
  const std::vector<std::int64_t> nothing(size_of(comm.size()), 0);
  const auto form = exchange.closed_form(experts_of(c, tokens), nothing);
  const std::uint64_t before = comm.traffic().bytes;
  std::ranges::copy(tokens.x, exchange.own_rows(tokens.count).data);
  exchange.dispatch(experts_of(c, tokens));
  EXPECT_TRUE(is_dispatch_of(form, comm.traffic().bytes - before));
  const std::uint64_t mutant =
      all_gather_posing_as_dispatch(comm, {tokens.x.data(), tokens.count, c.hidden}, c.precision);
  EXPECT_FALSE(is_dispatch_of(form, mutant));
  EXPECT_GT(mutant, form.dispatch_payload + form.dispatch_headers);
}

}  // namespace zoetrope
