#include "runtime/model/anonymous_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

TEST(AnonymousMemory, IsZeroAndWritable) {
  const AnonymousMemory memory(100'000, "a test");
  ASSERT_EQ(memory.bytes(), 100'000U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 4096, 0U);
  EXPECT_TRUE(
      std::all_of(memory.data(), memory.data() + memory.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  memory.data()[99'999] = std::byte{7};
  EXPECT_EQ(memory.data()[99'999], std::byte{7});
}

TEST(AnonymousMemory, NothingIsNothing) {
  const AnonymousMemory memory(0, "a test");
  EXPECT_EQ(memory.data(), nullptr);
}

TEST(AnonymousMemory, MovesItsRegion) {
  AnonymousMemory a(4096, "a test");
  a.data()[0] = std::byte{1};
  AnonymousMemory b = std::move(a);
  EXPECT_EQ(b.data()[0], std::byte{1});
  AnonymousMemory c(4096, "another");
  c = std::move(b);
  EXPECT_EQ(c.data()[0], std::byte{1});
}

TEST(AnonymousMemory, RefusesWhatNoSystemHas) {
  try {
    const AnonymousMemory memory(std::size_t{1} << 62, "the moon");
    FAIL() << "mapped 2^62 bytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    EXPECT_NE(std::string(error.what()).find("the moon"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace zoetrope
