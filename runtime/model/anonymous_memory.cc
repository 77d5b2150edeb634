#include "runtime/model/anonymous_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "monitoring/error.h"

namespace zoetrope {

AnonymousMemory::AnonymousMemory(std::size_t bytes, std::string_view what) : bytes_(bytes) {
  if (bytes == 0) {
    return;
  }
  void* region = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) {
    refuse(Radius::kStartup, {.what = fmt::format("memory for {}", what),
                              .found = fmt::format("{} when asking for {} bytes", std::strerror(errno), bytes),
                              .expected = "as much address space",
                              .remedy = "use more ranks, a smaller KV cache or a host with more memory"});
  }
  // Fewer TLB misses while weights stream by; a system without huge pages says no and loses nothing else.
  (void)madvise(region, bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(region);
}

AnonymousMemory::~AnonymousMemory() {
  if (data_ != nullptr) {
    munmap(data_, bytes_);
  }
}

AnonymousMemory::AnonymousMemory(AnonymousMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

AnonymousMemory& AnonymousMemory::operator=(AnonymousMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace zoetrope
