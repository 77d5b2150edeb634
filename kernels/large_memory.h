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

// Memory that asks for huge pages: a process's own, or of files in a file system mounted with huge=advise.
enum class MemoryKind { kPrivate, kSharedAdvised };

// Whether the system gives huge pages to such memory.
bool gives_huge_pages(MemoryKind kind);

}  // namespace zoetrope
