#include "tests/parallel/host_memory_suite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace zoetrope {

void check_host_memory(HostMemory& memory) {
  EXPECT_TRUE(memory.allocate(0).empty());
  const int n = memory.local_ranks();
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{5000}, std::size_t{3} << 20}) {
    const auto region = memory.allocate(bytes * static_cast<std::size_t>(n));
    ASSERT_EQ(region.size(), bytes * static_cast<std::size_t>(n));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(region.data()) % 64, 0U);
    EXPECT_TRUE(std::all_of(region.begin(), region.end(), [](std::byte b) { return b == std::byte{0}; }));
    memory.fence();  // all have looked
    const auto own = region.subspan(bytes * static_cast<std::size_t>(memory.local_rank()), bytes);
    std::fill(own.begin(), own.end(), static_cast<std::byte>(memory.local_rank() + 1));
    memory.fence();
    for (int r = 0; r < n; ++r) {
      const auto part = region.subspan(bytes * static_cast<std::size_t>(r), bytes);
      EXPECT_TRUE(
          std::all_of(part.begin(), part.end(), [r](std::byte b) { return b == static_cast<std::byte>(r + 1); }));
    }
  }
}

}  // namespace zoetrope
