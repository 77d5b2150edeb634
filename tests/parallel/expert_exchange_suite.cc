#include "tests/parallel/expert_exchange_suite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace zoetrope {
namespace {

std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

enum class Routing { kUniform, kSkewed, kOneExpertSet };

struct Case {
  int experts = 8;
  std::int64_t k = 2;
  std::int64_t hidden = 16;
  Precision precision = Precision::kBf16;
  Routing routing = Routing::kUniform;
  bool permuted = false;
  unsigned seed = 0;
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
  std::vector<std::int32_t> order(size_of(c.experts));
  for (std::int64_t t = 0; t < tokens.count; ++t) {
    std::iota(order.begin(), order.end(), 0);
    if (c.routing != Routing::kOneExpertSet) {
      std::shuffle(order.begin(), order.end(), random);
    }
    if (c.routing == Routing::kSkewed) {  // most tokens want the lowest experts, in any order
      std::partial_sort(order.begin(), order.begin() + c.k, order.end());
      std::shuffle(order.begin(), order.begin() + c.k, random);
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
  return c.precision == Precision::kBf16 ? round_bf16(made) : made;
}

ExpertTable table_of(const Case& c, int ranks) {
  ExpertTable table;
  if (c.experts >= ranks) {
    table = ExpertTable::contiguous(c.experts, ranks);
  } else {
    table.rank_of.resize(size_of(c.experts), ranks - 1);  // ranks without experts
  }
  if (c.permuted) {
    std::mt19937 random(c.seed);
    std::shuffle(table.rank_of.begin(), table.rank_of.end(), random);
  }
  return table;
}

Rows<const std::int32_t> experts_of(const Case& c, const Tokens& tokens) {
  return {tokens.experts.data(), tokens.count, c.k};
}
Rows<const float> rows_of(const Case& c, const Tokens& tokens) { return {tokens.x.data(), tokens.count, c.hidden}; }

// Tokens and pairs that `from` sends to `to`.
struct Load {
  std::uint64_t tokens = 0;
  std::uint64_t pairs = 0;
};
Load load(const Case& c, const ExpertTable& table, const Tokens& tokens, int to) {
  Load sum;
  for (std::int64_t t = 0; t < tokens.count; ++t) {
    std::uint64_t pairs = 0;
    for (std::int64_t j = 0; j < c.k; ++j) {
      pairs += table.rank_of[size_of(tokens.experts[size_of(t * c.k + j)])] == to ? 1 : 0;
    }
    sum.pairs += pairs;
    sum.tokens += pairs > 0 ? 1 : 0;
  }
  return sum;
}

// Every token that needs this rank, once, and for each local expert which of them.
void check_arrived(const Case& c, const ExpertTable& table, const std::vector<Tokens>& all, int rank,
                   const ExpertExchange::Arrived& arrived) {
  const std::vector<int> local = table.experts_of(rank);
  std::vector<std::vector<std::int32_t>> rows(local.size());
  std::vector<float> x;
  std::int32_t row = 0;
  for (const Tokens& tokens : all) {
    for (std::int64_t t = 0; t < tokens.count; ++t) {
      bool needed = false;
      for (std::size_t e = 0; e < local.size(); ++e) {
        const auto first = tokens.experts.begin() + t * c.k;
        if (std::find(first, first + c.k, local[e]) != first + c.k) {
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
  ASSERT_EQ(arrived.rows, rows);
  std::int64_t outputs = 0;
  for (std::size_t e = 0; e < local.size(); ++e) {
    ASSERT_EQ(arrived.first[e], outputs);
    outputs += static_cast<std::int64_t>(rows[e].size());
  }
  ASSERT_EQ(arrived.outputs, outputs);
}

std::vector<float> outputs_of(const Case& c, const ExpertTable& table, int rank,
                              const ExpertExchange::Arrived& arrived) {
  const std::vector<int> local = table.experts_of(rank);
  std::vector<float> outputs(size_of(arrived.outputs * c.hidden));
  for (std::size_t e = 0; e < local.size(); ++e) {
    for (std::size_t i = 0; i < arrived.rows[e].size(); ++i) {
      for (std::int64_t h = 0; h < c.hidden; ++h) {
        outputs[(size_of(arrived.first[e]) + i) * size_of(c.hidden) + size_of(h)] =
            made_by(c, local[e], arrived.x.row(arrived.rows[e][i])[h]);
      }
    }
  }
  return outputs;
}

void check_home(const Case& c, const Tokens& mine, const ExpertExchange::Home& home) {
  ASSERT_EQ(home.slots.rows, mine.count);
  ASSERT_EQ(home.slots.columns, c.k);
  ASSERT_EQ(home.outputs.rows, mine.count * c.k);
  std::vector<bool> used(size_of(mine.count * c.k), false);
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

void check_case(Communicator& comm, const Case& c, const SentByPeer& sent) {
  const ExpertTable table = table_of(c, comm.size());
  ExpertExchange exchange(comm, table, c.hidden, c.precision);
  const std::uint64_t row_bytes = size_of(c.hidden) * (c.precision == Precision::kBf16 ? 2 : 4);
  for (int step = 0; step < 3; ++step) {  // one exchange, many steps: buffers are used again
    std::vector<Tokens> all;
    for (int rank = 0; rank < comm.size(); ++rank) {
      all.push_back(tokens_of(c, rank, step));
    }
    const Tokens& mine = all[size_of(comm.rank())];
    std::vector<std::uint64_t> dispatch_bytes(size_of(comm.size()), 0);
    std::vector<std::uint64_t> combine_bytes = dispatch_bytes;
    std::vector<std::int64_t> home_by_rank(size_of(comm.size()), 0);
    for (int peer = 0; peer < comm.size(); ++peer) {
      const Load out = load(c, table, mine, peer);
      const Load in = load(c, table, all[size_of(peer)], comm.rank());
      home_by_rank[size_of(peer)] = static_cast<std::int64_t>(in.pairs);
      if (peer != comm.rank()) {
        dispatch_bytes[size_of(peer)] = 8 + out.tokens * (row_bytes + 1) + 2 * out.pairs;
        combine_bytes[size_of(peer)] = in.pairs * row_bytes;
      }
    }
    const auto form = exchange.closed_form(experts_of(c, mine), home_by_rank);
    Meter meter(comm, sent);
    const auto& arrived = exchange.dispatch(rows_of(c, mine), experts_of(c, mine));
    meter.expect(dispatch_bytes, "dispatch");
    EXPECT_EQ(form.dispatch_payload + form.dispatch_headers,
              std::accumulate(dispatch_bytes.begin(), dispatch_bytes.end(), std::uint64_t{0}));
    check_arrived(c, table, all, comm.rank(), arrived);
    EXPECT_EQ(arrived.outputs_by_rank, home_by_rank);
    const std::vector<float> outputs = outputs_of(c, table, comm.rank(), arrived);
    const auto home = exchange.combine(Rows<const float>(outputs.data(), arrived.outputs, c.hidden));
    meter.expect(combine_bytes, "combine");
    EXPECT_EQ(form.combine_payload, std::accumulate(combine_bytes.begin(), combine_bytes.end(), std::uint64_t{0}));
    check_home(c, mine, home);
  }
}

}  // namespace

void check_expert_exchange(Communicator& comm, const SentByPeer& sent) {
  unsigned seed = 1;
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    for (const Routing routing : {Routing::kUniform, Routing::kSkewed, Routing::kOneExpertSet}) {
      for (const int experts : {8, 11, 31}) {  // 11 and 31 do not divide
        for (const std::int64_t k : {1, 2, 3, 5, 8}) {
          SCOPED_TRACE(testing::Message() << "experts " << experts << " k " << k << " seed " << seed);
          check_case(comm, {experts, k, 16, precision, routing, seed % 2 == 0, seed}, sent);
          ++seed;
          if (testing::Test::HasFatalFailure()) {
            return;
          }
        }
      }
    }
    check_case(comm, {4, 4, 33, precision, Routing::kUniform, true, seed++}, sent);  // all experts, odd width
    check_case(comm, {1, 1, 8, precision, Routing::kUniform, false, seed++}, sent);  // ranks without experts
    check_case(comm, {64, 8, 2048, precision, Routing::kUniform, true, seed++},
               sent);  // messages beyond the eager limit
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
  ExpertExchange exchange(comm, table, c.hidden, c.precision);
  const std::vector<std::int64_t> nothing(size_of(comm.size()), 0);
  const auto form = exchange.closed_form(experts_of(c, tokens), nothing);
  const std::uint64_t before = comm.traffic().bytes;
  exchange.dispatch(rows_of(c, tokens), experts_of(c, tokens));
  EXPECT_TRUE(is_dispatch_of(form, comm.traffic().bytes - before));
  const std::uint64_t mutant = all_gather_posing_as_dispatch(comm, rows_of(c, tokens), c.precision);
  EXPECT_FALSE(is_dispatch_of(form, mutant));
  EXPECT_GT(mutant, form.dispatch_payload + form.dispatch_headers);
}

}  // namespace zoetrope
