// Memory that kernels stream through: scratch of the products, and what the benchmarks read.
#pragma once

#include <cstddef>
#include <memory>

namespace zoetrope {

struct FreeLargeMemory {
  void operator()(std::byte* memory) const;
};
using LargeMemory = std::unique_ptr<std::byte, FreeLargeMemory>;

// `bytes` at a cache line's boundary, not zeroed; in huge pages from a few megabytes on, where the system has them:
// software prefetches and hardware prefetchers stop at a page's end, and with pages of 4 KiB one core was measured to
// read a stream a third slower. std::bad_alloc where there is no memory.
LargeMemory large_memory(std::size_t bytes);

}  // namespace zoetrope
