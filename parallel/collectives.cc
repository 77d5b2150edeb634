#include "parallel/collectives.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "parallel/bf16_wire.h"
#include "parallel/layout.h"

namespace zoetrope {
namespace {

using Bytes = std::vector<std::byte>;

std::size_t index(int rank) { return static_cast<std::size_t>(rank); }

std::span<std::byte> bytes_of(std::uint64_t& value) { return std::as_writable_bytes(std::span(&value, 1)); }

// Below this a message's latency outweighs its bytes, and log2(n) rounds of all rows beat a scatter and a gather.
constexpr std::size_t kLatencyBoundBytes = 64 * 1024;

Range block_of(const Communicator& comm, std::int64_t rows, int rank) { return dealt(rows, rank, comm.size()); }

bool contiguous(const Rows<float>& rows) { return rows.stride == rows.columns || rows.rows <= 1; }

void check_rows(const Rows<float>& rows) {
  check(rows.rows >= 0 && rows.columns >= 0 && rows.stride >= rows.columns, "rows have a shape");
}

// Blocks [first, step, 2 step ...) of the dealing over all ranks: what recursive halving keeps or gives away together.
struct Blocks {
  int first = 0;
  int step = 1;
};

template <typename Visit>
void for_each_row(const Communicator& comm, std::int64_t rows, Blocks blocks, Visit&& visit) {
  for (int b = blocks.first; b < comm.size(); b += blocks.step) {
    const Range range = block_of(comm, rows, b);
    for (std::int64_t r = range.first; r < range.end; ++r) {
      visit(r);
    }
  }
}

std::size_t values_in(const Communicator& comm, const Rows<float>& rows, Blocks blocks) {
  std::int64_t count = 0;
  for (int b = blocks.first; b < comm.size(); b += blocks.step) {
    count += block_of(comm, rows.rows, b).count();
  }
  return static_cast<std::size_t>(count * rows.columns);
}

void pack(const Communicator& comm, const Rows<float>& rows, Blocks blocks, float* out) {
  for_each_row(comm, rows.rows, blocks, [&](std::int64_t r) {
    std::copy_n(rows.row(r), rows.columns, out);
    out += rows.columns;
  });
}

// Mine and the partner's sums of the same rows become their parent's: lower ranks + upper ranks.
void add_pair(float* mine, const float* theirs, std::int64_t count, bool mine_is_lower) {
  if (mine_is_lower) {
    for (std::int64_t i = 0; i < count; ++i) {
      mine[i] = mine[i] + theirs[i];
    }
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      mine[i] = theirs[i] + mine[i];
    }
  }
}

void swap_with(Communicator& comm, int partner, std::span<const float> out, std::span<float> in,
               std::string_view what) {
  const SendPart send{partner, std::as_bytes(out)};
  const ReceivePart receive{partner, std::as_writable_bytes(in)};
  comm.exchange({&send, 1}, {&receive, 1}, what);
}

struct ScratchFloats {
  std::span<float> out;
  std::span<float> in;
};

ScratchFloats scratch_floats(Communicator& comm, std::size_t out, std::size_t in) {
  auto* const values = reinterpret_cast<float*>(comm.scratch((out + in) * sizeof(float)).data());
  return {{values, out}, {values + out, in}};
}

// Recursive doubling: after the step of bit s every rank holds the sum of its 2^(s+1) neighbours, each in tree order.
void double_up(Communicator& comm, Rows<float> partial, std::string_view what) {
  const auto count = static_cast<std::size_t>(partial.rows * partial.columns);
  for (int bit = 1; bit < comm.size(); bit *= 2) {
    const auto [out, in] = scratch_floats(comm, count, count);
    pack(comm, partial, {}, out.data());
    swap_with(comm, comm.rank() ^ bit, out, in, what);
    const float* theirs = in.data();
    for (std::int64_t r = 0; r < partial.rows; ++r, theirs += partial.columns) {
      add_pair(partial.row(r), theirs, partial.columns, (comm.rank() & bit) == 0);
    }
  }
}

}  // namespace

// Dissemination (Hensgen, Finkel, Manber 1988): log2(n) rounds for any n.
void barrier(Communicator& comm, std::string_view what) {
  const int n = comm.size();
  const std::byte sent{1};
  for (int distance = 1; distance < n; distance *= 2) {
    std::byte received{0};
    const SendPart send{(comm.rank() + distance) % n, {&sent, 1}};
    const ReceivePart receive{(comm.rank() + n - distance) % n, {&received, 1}};
    comm.exchange({&send, 1}, {&receive, 1}, what);
  }
}

// From the root to each rank directly: plans and digests are small, and one hop wakes the others sooner than a tree.
Bytes broadcast(Communicator& comm, std::span<const std::byte> bytes, int root, std::string_view what) {
  std::uint64_t length = bytes.size();
  if (comm.rank() == root) {
    std::vector<SendPart> sends;
    for (int r = 0; r < comm.size(); ++r) {
      if (r != root) {
        sends.push_back({r, bytes_of(length)});
        sends.push_back({r, bytes});
      }
    }
    comm.exchange(sends, {}, what);
    return {bytes.begin(), bytes.end()};
  }
  const ReceivePart length_part{root, bytes_of(length)};
  comm.exchange({}, {&length_part, 1}, what);
  Bytes received(length);
  const ReceivePart part{root, received};
  comm.exchange({}, {&part, 1}, what);
  return received;
}

std::vector<Bytes> gather(Communicator& comm, std::span<const std::byte> bytes, int root, std::string_view what) {
  std::uint64_t length = bytes.size();
  if (comm.rank() != root) {
    const SendPart sends[] = {{root, bytes_of(length)}, {root, bytes}};
    comm.exchange(sends, {}, what);
    return {};
  }
  std::vector<std::uint64_t> lengths(index(comm.size()));
  std::vector<ReceivePart> receives;
  for (int r = 0; r < comm.size(); ++r) {
    if (r != root) {
      receives.push_back({r, bytes_of(lengths[index(r)])});
    }
  }
  comm.exchange({}, receives, what);
  std::vector<Bytes> all(index(comm.size()));
  all[index(root)].assign(bytes.begin(), bytes.end());
  receives.clear();
  for (int r = 0; r < comm.size(); ++r) {
    if (r != root) {
      all[index(r)].resize(lengths[index(r)]);
      receives.push_back({r, all[index(r)]});
    }
  }
  comm.exchange({}, receives, what);
  return all;
}

std::vector<Bytes> all_gather(Communicator& comm, std::span<const std::byte> bytes, std::string_view what) {
  std::uint64_t length = bytes.size();
  std::vector<std::uint64_t> lengths(index(comm.size()));
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (int r = 0; r < comm.size(); ++r) {
    sends.push_back({r, bytes_of(length)});
    receives.push_back({r, bytes_of(lengths[index(r)])});
  }
  comm.exchange(sends, receives, what);
  std::vector<Bytes> all(index(comm.size()));
  for (int r = 0; r < comm.size(); ++r) {
    all[index(r)].resize(lengths[index(r)]);
    sends[index(r)].bytes = bytes;
    receives[index(r)].bytes = all[index(r)];
  }
  comm.exchange(sends, receives, what);
  return all;
}

void all_gather_rows(Communicator& comm, Rows<float> all, bool as_bf16, std::string_view what) {
  check_rows(all);
  if (comm.size() == 1 || all.rows * all.columns == 0) {
    return;
  }
  const std::size_t value_bytes = as_bf16 ? sizeof(Bf16) : sizeof(float);
  const std::size_t row_bytes = static_cast<std::size_t>(all.columns) * value_bytes;
  const bool in_place = !as_bf16 && contiguous(all);  // rows are messages as they lie
  std::span<std::byte> memory =
      in_place ? std::as_writable_bytes(std::span(all.data, static_cast<std::size_t>(all.rows * all.columns)))
               : comm.scratch(static_cast<std::size_t>(all.rows) * row_bytes);
  const Range own = block_of(comm, all.rows, comm.rank());
  const auto wire = [&](const Range& range) {
    return memory.subspan(static_cast<std::size_t>(range.first) * row_bytes,
                          static_cast<std::size_t>(range.count()) * row_bytes);
  };
  for (std::int64_t r = own.first; r < own.end && !in_place; ++r) {
    to_wire(all.row(r), all.columns, as_bf16, wire({r, r + 1}).data());
  }
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (int r = 0; r < comm.size(); ++r) {
    if (r != comm.rank()) {
      sends.push_back({r, wire(own)});
      receives.push_back({r, wire(block_of(comm, all.rows, r))});
    }
  }
  comm.exchange(sends, receives, what);
  for (std::int64_t r = 0; r < all.rows && !in_place; ++r) {
    if (r < own.first || r >= own.end) {
      from_wire(wire({r, r + 1}).data(), all.columns, as_bf16, all.row(r));
    }
  }
}

// Recursive halving. The tree joins neighbours first, so the step of bit s separates blocks by bit s of their index:
// after it, a rank holds the sums of 2^(s+1) ranks for the blocks whose low s + 1 bits are its own.
void tree_reduce_scatter_rows(Communicator& comm, Rows<float> partial, std::string_view what) {
  check_rows(partial);
  check(std::has_single_bit(static_cast<unsigned>(comm.size())), "the tree joins a power of two of ranks");
  for (int bit = 1; bit < comm.size(); bit *= 2) {
    const int partner = comm.rank() ^ bit;
    const Blocks given{partner & (2 * bit - 1), 2 * bit};
    const Blocks kept{comm.rank() & (2 * bit - 1), 2 * bit};
    const auto [out, in] = scratch_floats(comm, values_in(comm, partial, given), values_in(comm, partial, kept));
    pack(comm, partial, given, out.data());
    swap_with(comm, partner, out, in, what);
    const float* theirs = in.data();
    for_each_row(comm, partial.rows, kept, [&](std::int64_t r) {
      add_pair(partial.row(r), theirs, partial.columns, (comm.rank() & bit) == 0);
      theirs += partial.columns;
    });
  }
}

void tree_all_reduce_rows(Communicator& comm, Rows<float> partial, std::string_view what) {
  check_rows(partial);
  check(std::has_single_bit(static_cast<unsigned>(comm.size())), "the tree joins a power of two of ranks");
  if (static_cast<std::size_t>(partial.rows * partial.columns) * sizeof(float) <= kLatencyBoundBytes) {
    double_up(comm, partial, what);
  } else {
    tree_reduce_scatter_rows(comm, partial, what);
    all_gather_rows(comm, partial, false, what);
  }
}

bool all_equal(Communicator& comm, std::span<const std::byte> bytes, std::string_view what) {
  const Bytes first = broadcast(comm, bytes, 0, what);
  const std::byte same{std::equal(bytes.begin(), bytes.end(), first.begin(), first.end()) ? std::uint8_t{1}
                                                                                          : std::uint8_t{0}};
  const auto verdicts = all_gather(comm, {&same, 1}, what);
  return std::all_of(verdicts.begin(), verdicts.end(),
                     [](const Bytes& verdict) { return verdict.at(0) == std::byte{1}; });
}

}  // namespace zoetrope
