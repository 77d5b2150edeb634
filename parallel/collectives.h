// Collectives over exchange(). Sums are fp32 in the binary tree of docs/one-answer.md rule 2, never in a library's
// order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/communicator.h"

namespace zoetrope {

void barrier(Communicator& comm, std::string_view what);

// Every rank ends with root's bytes; the length travels first.
std::vector<std::byte> broadcast(Communicator& comm, std::span<const std::byte> bytes /* read at root */, int root,
                                 std::string_view what);
// Root gets every rank's bytes in rank order (its own too); others get nothing.
std::vector<std::vector<std::byte>> gather(Communicator& comm, std::span<const std::byte> bytes, int root,
                                           std::string_view what);
std::vector<std::vector<std::byte>> all_gather(Communicator& comm, std::span<const std::byte> bytes,
                                               std::string_view what);

// Every rank's value in rank order.
template <typename T>
  requires std::is_trivially_copyable_v<T>
std::vector<T> all_gather_value(Communicator& comm, const T& own, std::string_view what) {
  std::vector<T> values;
  for (const auto& bytes : all_gather(comm, std::as_bytes(std::span(&own, 1)), what)) {
    std::memcpy(&values.emplace_back(), bytes.data(), sizeof(T));
  }
  return values;
}

// The rows of `all` are dealt over ranks (layout.h dealt()); each rank has filled its own block, all end with all rows.
// bf16 values travel as bf16 when `as_bf16` (exact for rounded rows).
void all_gather_rows(Communicator& comm, Rows<float> all, bool as_bf16, std::string_view what);

// Every rank holds an fp32 partial of all rows; rank r ends with the sum of its dealt() block in rows
// [first, end) of `partial` (other rows are left undefined). size() is a power of two. Tree (0,1)(2,3)..., lower +
// upper.
void tree_reduce_scatter_rows(Communicator& comm, Rows<float> partial, std::string_view what);

// The same sums, every rank ending with all rows.
void tree_all_reduce_rows(Communicator& comm, Rows<float> partial, std::string_view what);

// True on every rank when every rank passed equal bytes: digests, versions, rotary tables, chosen bodies.
bool all_equal(Communicator& comm, std::span<const std::byte> bytes, std::string_view what);

}  // namespace zoetrope
