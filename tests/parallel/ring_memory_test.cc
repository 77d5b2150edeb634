#include "parallel/ring_memory.h"

#include <gtest/gtest.h>

#include <string>

#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

constexpr std::size_t kBytes = 8192;

TEST(RingMemory, LaysThePoolsOfAHostSideBySideForEveryMember) {
  run_ranks({.ring = 5}, [](Ranks& ranks) {
    const int own = ranks.ring->rank();
    const RingMemory memory(*ranks.ring, "host", kBytes, RingTransport::kAuto);
    ASSERT_EQ(memory.pools().size(), 5 * kBytes);
    EXPECT_EQ(memory.places(), (std::vector<int>{0, 1, 2, 3, 4}));
    EXPECT_EQ(memory.described(), "shared");
    EXPECT_EQ(memory.own().data(), memory.pools().data() + static_cast<std::size_t>(own) * kBytes);
    memory.own()[7] = static_cast<std::byte>(own + 1);
    barrier(*ranks.ring, "written");
    for (std::size_t member = 0; member < 5; ++member) {
      EXPECT_EQ(memory.pools()[member * kBytes + 7], static_cast<std::byte>(member + 1));
    }
    barrier(*ranks.ring, "read");
  });
}

TEST(RingMemory, SharesWithinHostsOnly) {
  run_ranks({.ring = 5}, [](Ranks& ranks) {
    const int own = ranks.ring->rank();  // hosts a b a b c
    const RingMemory memory(*ranks.ring, own == 4 ? "c" : own % 2 == 0 ? "a" : "b", kBytes, RingTransport::kAuto);
    EXPECT_EQ(memory.hosts(), (std::vector<std::int32_t>{0, 1, 0, 1, -5}));
    RingPages pages;
    std::vector<std::int64_t> first_page(memory.places().begin(), memory.places().end());
    pages.first_page = first_page;
    if (own == 4) {
      EXPECT_TRUE(memory.pools().empty());
      EXPECT_TRUE(memory.own().empty());
      EXPECT_EQ(memory.described(), "messages");
      EXPECT_FALSE(pages.shared_by({.members = 1, .first_member = 4, .ring = 5}));
      return;
    }
    EXPECT_EQ(memory.places(),
              own % 2 == 0 ? (std::vector<int>{0, -1, 1, -1, -1}) : (std::vector<int>{-1, 0, -1, 1, -1}));
    EXPECT_EQ(memory.own().data() - memory.pools().data(), own < 2 ? 0 : static_cast<std::ptrdiff_t>(kBytes));
    EXPECT_EQ(memory.described(), "shared by the members of a host");
    EXPECT_TRUE(pages.shared_by({.members = 1, .first_member = own, .ring = 5}));
    EXPECT_FALSE(pages.shared_by({.members = 2, .first_member = own, .ring = 5}));
  });
}

TEST(RingMemory, MessagesAreTakenWhenWishedAndSharingIsRefusedWhereItCannotBe) {
  run_ranks({.ring = 2}, [](Ranks& ranks) {
    const RingMemory none(*ranks.ring, "host", kBytes, RingTransport::kMessages);
    EXPECT_TRUE(none.pools().empty() && none.own().empty() && none.places().empty() && none.hosts().empty());
    EXPECT_EQ(none.described(), "messages");
    try {
      const RingMemory impossible(*ranks.ring, ranks.ring->rank() == 0 ? "a" : "b", kBytes, RingTransport::kShared);
      FAIL() << "two hosts share no memory";
    } catch (const Error& error) {
      EXPECT_EQ(error.radius(), Radius::kStartup);
      EXPECT_NE(std::string(error.what()).find("--ring-transport"), std::string::npos) << error.what();
    }
    // More than there is: messages, or refused with the cause.
    const RingMemory fallen_back(*ranks.ring, "host", std::size_t{1} << 59, RingTransport::kAuto);
    EXPECT_EQ(fallen_back.described(), "messages");
    EXPECT_THROW(RingMemory(*ranks.ring, "host", std::size_t{1} << 59, RingTransport::kShared), Error);
  });
}

}  // namespace
}  // namespace zoetrope
