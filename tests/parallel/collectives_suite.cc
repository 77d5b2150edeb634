#include "tests/parallel/collectives_suite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "parallel/collectives.h"
#include "parallel/layout.h"

namespace zoetrope {
namespace {

using Bytes = std::vector<std::byte>;

std::uint32_t mixed(std::uint64_t value) {
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccdULL;
  value ^= value >> 33;
  value *= 0xc4ceb9fe1a85ec53ULL;
  return static_cast<std::uint32_t>(value >> 32);
}

Bytes bytes_of(int rank, std::size_t count) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::byte>(mixed(i * 64 + static_cast<std::size_t>(rank)));
  }
  return bytes;
}

// The tree of docs/one-answer.md rule 2, written as it reads: halves, lower + upper.
float tree_sum(std::int64_t row, std::int64_t column, int first, int end) {
  if (end - first == 1) {
    return held_by(first, row, column);
  }
  const int middle = first + (end - first) / 2;
  return tree_sum(row, column, first, middle) + tree_sum(row, column, middle, end);
}

// Rows with a stride, so that gaps between them are seen to stay.
struct Matrix {
  Matrix(std::int64_t rows_, std::int64_t columns, std::int64_t gap)
      : values(static_cast<std::size_t>(rows_ * (columns + gap)), -7.0f),
        rows(values.data(), rows_, columns, columns + gap) {}
  std::vector<float> values;
  Rows<float> rows;
};

// Whatever the vector unit does with 37 x 64 values, a sum is equal when its bits are.
bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

void check_gap(const Matrix& matrix) {
  for (std::int64_t r = 0; r < matrix.rows.rows; ++r) {
    for (std::int64_t c = matrix.rows.columns; c < matrix.rows.stride; ++c) {
      ASSERT_EQ(matrix.rows.row(r)[c], -7.0f);
    }
  }
}

void check_gather_of(Communicator& comm, std::int64_t rows, std::int64_t columns, std::int64_t gap, bool as_bf16) {
  Matrix matrix(rows, columns, gap);
  const auto expected = [&](std::int64_t r, std::int64_t c) {
    const float value = held_by(5, r, c);
    return as_bf16 ? round_bf16(value) : value;
  };
  const Range own = dealt(rows, comm.rank(), comm.size());
  for (std::int64_t r = own.first; r < own.end; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      matrix.rows.row(r)[c] = expected(r, c);
    }
  }
  const Traffic before = comm.traffic();
  all_gather_rows(comm, matrix.rows, as_bf16, "rows");
  EXPECT_EQ(comm.traffic().bytes - before.bytes,
            static_cast<std::uint64_t>(own.count() * columns * (as_bf16 ? 2 : 4) * (comm.size() - 1)));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      ASSERT_EQ(matrix.rows.row(r)[c], expected(r, c)) << "row " << r << " column " << c;
    }
  }
  check_gap(matrix);
}

void check_tree_of(Communicator& comm, std::int64_t rows, std::int64_t columns, std::int64_t gap) {
  for (const bool scatter : {true, false}) {
    Matrix matrix(rows, columns, gap);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        matrix.rows.row(r)[c] = held_by(comm.rank(), r, c);
      }
    }
    if (scatter) {
      tree_reduce_scatter_rows(comm, matrix.rows, "tree");
    } else {
      tree_all_reduce_rows(comm, matrix.rows, "tree");
    }
    const Range own = scatter ? dealt(rows, comm.rank(), comm.size()) : Range{0, rows};
    for (std::int64_t r = own.first; r < own.end; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        ASSERT_TRUE(same_bits(matrix.rows.row(r)[c], tree_sum(r, c, 0, comm.size())))
            << (scatter ? "scatter" : "all") << " row " << r << " column " << c << " of " << rows << " x " << columns;
      }
    }
    check_gap(matrix);
  }
}

}  // namespace

float held_by(int rank, std::int64_t row, std::int64_t column) {
  const std::uint32_t bits = mixed(static_cast<std::uint64_t>(row) * 4096 + static_cast<std::uint64_t>(column) * 64 +
                                   static_cast<std::uint64_t>(rank) + 1);
  const float mantissa = 1.0f + static_cast<float>(bits & 0xffffffU) / 16777216.0f;
  const float value = std::ldexp(mantissa, static_cast<int>(bits >> 27) - 16);
  return (bits & (1U << 26)) != 0 ? -value : value;
}

void check_messages(Communicator& comm) {
  const int n = comm.size();
  for (int i = 0; i < 3; ++i) {
    barrier(comm, "barrier");
  }
  for (int root = 0; root < n; ++root) {
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{200'003}}) {
      const Bytes mine = bytes_of(comm.rank(), comm.rank() == root ? count : 3);
      EXPECT_EQ(broadcast(comm, mine, root, "broadcast"), bytes_of(root, count));
    }
    const auto length = [](int rank) { return static_cast<std::size_t>(rank * 17 % 5) * 1001; };  // 0 for some
    const auto gathered = gather(comm, bytes_of(comm.rank(), length(comm.rank())), root, "gather");
    ASSERT_EQ(gathered.size(), comm.rank() == root ? static_cast<std::size_t>(n) : 0U);
    const auto all = all_gather(comm, bytes_of(comm.rank(), length(comm.rank())), "all_gather");
    ASSERT_EQ(all.size(), static_cast<std::size_t>(n));
    for (int r = 0; r < n; ++r) {
      EXPECT_EQ(all[static_cast<std::size_t>(r)], bytes_of(r, length(r)));
      if (comm.rank() == root) {
        EXPECT_EQ(gathered[static_cast<std::size_t>(r)], bytes_of(r, length(r)));
      }
    }
  }
  EXPECT_TRUE(all_equal(comm, bytes_of(1, 99), "equal"));
  EXPECT_TRUE(all_equal(comm, {}, "equal"));
  for (int odd = 0; odd < n && n > 1; ++odd) {  // one rank differs: by a bit, by a length
    Bytes mine = bytes_of(1, 99);
    mine[98] ^= comm.rank() == odd ? std::byte{1} : std::byte{0};
    EXPECT_FALSE(all_equal(comm, mine, "equal")) << odd;
    EXPECT_FALSE(all_equal(comm, bytes_of(1, comm.rank() == odd ? 98 : 99), "equal")) << odd;
  }
}

void check_gathered_rows(Communicator& comm) {
  const std::int64_t n = comm.size();
  for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{1}, n - 1, n, n + 3, std::int64_t{37}}) {
    for (const std::int64_t columns : {1, 5, 64}) {
      for (const std::int64_t gap : {0, 3}) {
        check_gather_of(comm, rows, columns, gap, false);
        check_gather_of(comm, rows, columns, gap, true);
      }
    }
  }
}

void check_tree_sums(Communicator& comm) {
  const std::int64_t n = comm.size();
  for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{1}, n - 1, n, n + 3, std::int64_t{37}}) {
    for (const std::int64_t columns : {1, 5, 64}) {
      check_tree_of(comm, rows, columns, 0);
      check_tree_of(comm, rows, columns, 3);
    }
  }
  check_tree_of(comm, 300, 64, 1);  // more than a latency-bound message: all-reduce by scatter and gather
}

void check_split(Communicator& comm) {
  // By parity, in reverse order; then each part in two, while the whole goes on being used.
  const auto half = comm.split(comm.rank() % 2, -comm.rank());
  std::vector<int> members;
  for (int r = comm.size() - 1; r >= 0; --r) {
    if (r % 2 == comm.rank() % 2) {
      members.push_back(r);
    }
  }
  ASSERT_EQ(half->size(), static_cast<int>(members.size()));
  EXPECT_EQ(members[static_cast<std::size_t>(half->rank())], comm.rank());
  const auto all = all_gather(*half, bytes_of(comm.rank(), 10), "half");
  for (std::size_t i = 0; i < members.size(); ++i) {
    EXPECT_EQ(all[i], bytes_of(members[i], 10));
  }
  const auto quarter = half->split(half->rank() / 2, half->rank());
  EXPECT_LE(quarter->size(), 2);
  // Messages of three groups between the same two ranks do not mix: sent in one order, received in another.
  const int n = comm.size();
  const int next = (half->rank() + 1) % half->size();
  const int before = (half->rank() + half->size() - 1) % half->size();
  const Bytes first = bytes_of(comm.rank(), 7);
  barrier(*quarter, "quarter");
  barrier(comm, "whole");
  Bytes received(7);
  const SendPart send{next, first};
  const ReceivePart receive{before, received};
  half->exchange({&send, 1}, {&receive, 1}, "half");
  EXPECT_EQ(received, bytes_of(members[static_cast<std::size_t>(before)], 7));
  EXPECT_EQ(all_gather(comm, first, "whole").size(), static_cast<std::size_t>(n));
}

void check_order_of_parts(Communicator& comm) {
  constexpr std::size_t kParts = 8, kBytes = 20000;  // copying takes long enough for others to arrive meanwhile
  const auto size = static_cast<std::size_t>(comm.size());
  std::vector<std::byte> out(size * kParts * kBytes), in(out.size());
  for (int round = 0; round < 200; ++round) {
    std::vector<SendPart> sends;
    std::vector<ReceivePart> receives;
    for (std::size_t part = 0; part < kParts; ++part) {
      for (std::size_t peer = 0; peer < size; ++peer) {
        const std::size_t at = (peer * kParts + part) * kBytes;
        std::fill_n(out.begin() + static_cast<std::ptrdiff_t>(at), kBytes,
                    static_cast<std::byte>(part + static_cast<std::size_t>(comm.rank()) * kParts));
        sends.push_back({static_cast<int>(peer), std::span(out).subspan(at, kBytes)});
        receives.push_back({static_cast<int>(peer), std::span(in).subspan(at, kBytes)});
      }
    }
    comm.exchange(sends, receives, "parts in order");
    for (std::size_t i = 0; i < size * kParts; ++i) {
      EXPECT_EQ(static_cast<std::size_t>(in[i * kBytes]), i)
          << "part " << i % kParts << " of rank " << i / kParts << " in round " << round;
    }
  }
}

void check_posted_exchanges(Communicator& comm) {
  const int n = comm.size();
  const int next = (comm.rank() + 1) % n, before = (comm.rank() + n - 1) % n;
  const std::vector<std::size_t> sizes{1, 100'000, 7, 0, 3'000'000, 50, 40'000};
  const Traffic sent = comm.traffic();
  for (const bool backwards : {false, true}) {
    std::vector<Bytes> out, in;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      out.push_back(bytes_of(comm.rank() * 10 + static_cast<int>(i), sizes[i]));
      in.emplace_back(sizes[i]);
    }
    std::vector<Exchange> exchanges;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const SendPart send{next, out[i]};
      const ReceivePart receive{before, in[i]};
      exchanges.push_back(comm.post({&send, 1}, {&receive, 1}, "posted"));
    }
    for (int asked = 0; asked < 20; ++asked) {
      exchanges[static_cast<std::size_t>(asked) % sizes.size()].test();
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      Exchange& exchange = exchanges[backwards ? sizes.size() - 1 - i : i];
      if (i % 2 == 0) {
        exchange.wait();
      } else {
        while (!exchange.test()) {
        }
      }
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_EQ(in[i], bytes_of(before * 10 + static_cast<int>(i), sizes[i])) << "exchange " << i;
    }
  }
  if (n > 1) {
    EXPECT_EQ(comm.traffic().bytes - sent.bytes, 2U * (1 + 100'000 + 7 + 3'000'000 + 50 + 40'000));
  }
}

void check_long_exchange(Communicator& comm, std::size_t bytes) {
  const int n = comm.size();
  std::vector<Bytes> out;
  std::vector<Bytes> in;
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  const auto length = [&](int from, int to, int part) {
    return bytes + static_cast<std::size_t>(from * 31 + to * 7 + part);
  };
  for (int peer = 0; peer < n; ++peer) {
    for (int part = 0; part < 2; ++part) {
      out.push_back(bytes_of(comm.rank() * 100 + peer * 2 + part, length(comm.rank(), peer, part)));
      in.emplace_back(length(peer, comm.rank(), part));
    }
  }
  for (int peer = 0; peer < n; ++peer) {
    for (int part = 0; part < 2; ++part) {
      sends.push_back({peer, out[static_cast<std::size_t>(peer * 2 + part)]});
      receives.push_back({peer, in[static_cast<std::size_t>(peer * 2 + part)]});
      sends.push_back({peer, {}});  // empty parts are left out
    }
  }
  comm.exchange(sends, receives, "long exchange");
  for (int peer = 0; peer < n; ++peer) {
    for (int part = 0; part < 2; ++part) {
      EXPECT_EQ(in[static_cast<std::size_t>(peer * 2 + part)],
                bytes_of(peer * 100 + comm.rank() * 2 + part, length(peer, comm.rank(), part)));
    }
  }
}

}  // namespace zoetrope
