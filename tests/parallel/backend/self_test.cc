#include "parallel/backend/self.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

TEST(Self, CopiesPartsToItselfInOrder) {
  const auto comm = self_communicator();
  const std::array<std::byte, 3> a{std::byte{1}, std::byte{2}, std::byte{3}};
  const std::array<std::byte, 2> b{std::byte{4}, std::byte{5}};
  std::array<std::byte, 3> x{};
  std::array<std::byte, 2> y{};
  const std::vector<SendPart> sends{{0, a}, {0, {}}, {0, b}};
  const std::vector<ReceivePart> receives{{0, {}}, {0, x}, {0, y}};
  comm->exchange(sends, receives, "copy");
  EXPECT_EQ(a, x);
  EXPECT_EQ(b, y);
  EXPECT_EQ(comm->traffic().bytes, 0U);
  EXPECT_THROW(comm->exchange({&sends[0], 1}, {&receives[2], 1}, "lengths"), Error);
}

TEST(Self, HasNoPeers) {
  const auto comm = self_communicator();
  const std::byte byte{1};
  const SendPart send{1, {&byte, 1}};
  EXPECT_DEATH(comm->exchange({&send, 1}, {}, "nobody"), "no peers");
  const SendPart lost{0, {&byte, 1}};
  EXPECT_DEATH(comm->exchange({&lost, 1}, {}, "lost"), "received");
}

TEST(Self, AbortHoldsForItsPartsToo) {
  const auto comm = self_communicator();
  const auto part = comm->split(3, 0);
  part->exchange({}, {}, "fine");
  comm->abort("enough");
  EXPECT_THROW(part->exchange({}, {}, "late"), Error);
}

}  // namespace
}  // namespace zoetrope
