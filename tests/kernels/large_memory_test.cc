#include "kernels/large_memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <sstream>
#include <string>

namespace zoetrope {
namespace {

TEST(LargeMemory, LiesAtACacheLineAndIsWritable) {
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{2} << 20, (std::size_t{3} << 20) + 7}) {
    const LargeMemory memory = large_memory(bytes);
    ASSERT_NE(memory, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.get()) % 64, 0U);
    std::memset(memory.get(), 7, bytes);
  }
}

// The kernel's own word for a mapping that wishes for huge pages is "hg" among its VmFlags.
TEST(LargeMemory, AsksForHugePages) {
  const LargeMemory memory = large_memory(std::size_t{8} << 20);
  std::ifstream maps("/proc/self/smaps");
  std::string line, flags;
  bool inside = false;
  while (std::getline(maps, line)) {
    std::uintptr_t first = 0, end = 0;
    char dash = 0;
    std::istringstream range(line);
    if (range >> std::hex >> first >> dash >> end && dash == '-') {
      const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
      inside = first <= address && address < end;
    } else if (inside && line.starts_with("VmFlags:")) {
      flags = line;
    }
  }
  if (flags.empty() || !std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) {
    GTEST_SKIP() << "this system does not say what a mapping wishes";
  }
  EXPECT_NE(flags.find(" hg"), std::string::npos) << flags;
}

TEST(LargeMemory, WhatNoSystemHasIsRefused) {
  EXPECT_THROW(large_memory(std::numeric_limits<std::size_t>::max() / 2), std::bad_alloc);
}

}  // namespace
}  // namespace zoetrope
