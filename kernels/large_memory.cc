#include "kernels/large_memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <fstream>
#include <new>
#include <string>

#include "kernels/tensor.h"

namespace zoetrope {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

void FreeLargeMemory::operator()(std::byte* memory) const { std::free(memory); }

LargeMemory large_memory(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
  const std::size_t whole = round_up<std::size_t>(bytes, alignment);
  LargeMemory memory(static_cast<std::byte*>(std::aligned_alloc(alignment, whole == 0 ? alignment : whole)));
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  if (alignment == kHugePage) {
    (void)madvise(memory.get(), whole, MADV_HUGEPAGE);  // a wish: a system without huge pages says no
  }
  return memory;
}

bool gives_huge_pages(MemoryKind kind) {
  const bool own = kind == MemoryKind::kPrivate;
  std::ifstream setting(own ? "/sys/kernel/mm/transparent_hugepage/enabled"
                            : "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::string words;  // e.g. "always [madvise] never"
  return std::getline(setting, words) && words.find(own ? "[never]" : "[deny]") == std::string::npos;
}

}  // namespace zoetrope
