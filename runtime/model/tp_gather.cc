#include "runtime/model/tp_gather.h"

#include <cstring>
#include <vector>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

std::span<std::byte> bytes_of(float* data, std::int64_t count) {
  return std::as_writable_bytes(std::span(data, static_cast<std::size_t>(count)));
}

void copy_columns(Rows<const float> from, Rows<float> to) {
  for (std::int64_t row = 0; row < from.rows; ++row) {
    std::memcpy(to.row(row), from.row(row), static_cast<std::size_t>(from.columns) * sizeof(float));
  }
}

// Every rank sends its own block to all and receives theirs; `block_bytes(block)` is where a block lies.
template <typename BlockBytes>
void exchange_blocks(Communicator& group, std::span<const Range> blocks, const BlockBytes& block_bytes,
                     std::string_view what) {
  const Range own = blocks[static_cast<std::size_t>(group.rank())];
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (int peer = 0; peer < group.size(); ++peer) {
    const Range block = blocks[static_cast<std::size_t>(peer)];
    if (peer == group.rank()) {
      continue;
    }
    if (own.count() > 0) {
      sends.push_back({.peer = peer, .bytes = block_bytes(own)});
    }
    if (block.count() > 0) {
      receives.push_back({.peer = peer, .bytes = block_bytes(block)});
    }
  }
  group.exchange(sends, receives, what);
}

}  // namespace

void gather_row_blocks(Communicator& group, Rows<float> all, std::span<const Range> blocks, std::string_view what) {
  check_eq(static_cast<int>(blocks.size()), group.size(), "a block of rows for every rank");
  check_eq(all.stride, all.columns, "gathered rows are contiguous");
  exchange_blocks(
      group, blocks, [&](Range block) { return bytes_of(all.row(block.first), block.count() * all.columns); }, what);
}

void gather_column_blocks(Communicator& group, Rows<float> all, std::span<const Range> blocks,
                          const std::function<Rows<float>(std::int64_t, std::int64_t)>& scratch,
                          std::string_view what) {
  check_eq(static_cast<int>(blocks.size()), group.size(), "a block of columns for every rank");
  if (group.size() == 1 || all.rows == 0) {
    return;
  }
  // Blocks one after the other, each contiguous: block b begins at element rows * blocks[b].first.
  const Rows<float> staging = scratch(all.rows, all.columns);
  const auto staged = [&](Range block) -> Rows<float> {
    return {staging.data + all.rows * block.first, all.rows, block.count()};
  };
  const auto in_place = [&](Range block) -> Rows<float> {
    return {all.data + block.first, all.rows, block.count(), all.stride};
  };
  const Range own = blocks[static_cast<std::size_t>(group.rank())];
  copy_columns(in_place(own), staged(own));
  exchange_blocks(
      group, blocks, [&](Range block) { return bytes_of(staged(block).data, all.rows * block.count()); }, what);
  for (int peer = 0; peer < group.size(); ++peer) {
    if (peer != group.rank()) {
      const Range block = blocks[static_cast<std::size_t>(peer)];
      copy_columns(staged(block), in_place(block));
    }
  }
}

}  // namespace zoetrope
