#include "parallel/control_channel.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

using Bytes = std::vector<std::byte>;

Bytes text(std::string_view words) {
  const auto bytes = std::as_bytes(std::span(words.data(), words.size()));
  return {bytes.begin(), bytes.end()};
}

TEST(ControlChannelTest, PlansGoOutAndAnswersComeBack) {
  run_ranks({.ring = 3}, [](Ranks& ranks) {
    ControlChannel channel(*ranks.world);
    for (int step = 0; step < 5; ++step) {
      const Bytes plan = step == 3 ? Bytes{} : text("plan " + std::to_string(step));
      if (ranks.leader()) {
        channel.send(plan);
      } else {
        EXPECT_EQ(channel.receive(), plan);
      }
      const auto answers = channel.collect(text("rank " + std::to_string(ranks.place.rank)));
      ASSERT_EQ(answers.size(), ranks.leader() ? 3U : 0U);
      for (std::size_t r = 0; r < answers.size(); ++r) {
        EXPECT_EQ(answers[r], text("rank " + std::to_string(r)));
      }
    }
  });
}

// The leader's message as it travels, caught by a broadcast, changed, and sent on.
std::string follower_says(const std::function<void(Bytes&)>& change) {
  std::string said;
  run_ranks({.ring = 2}, [&](Ranks& ranks) {
    Communicator& comm = *ranks.world;
    ControlChannel channel(comm);
    if (ranks.leader()) {
      channel.send(text("a plan"));
      Bytes message = broadcast(comm, {}, 1, "caught");
      change(message);
      broadcast(comm, message, 0, "sent on");
      return;
    }
    broadcast(comm, broadcast(comm, {}, 0, "catch"), 1, "caught");
    try {
      channel.receive();
    } catch (const Error& error) {
      EXPECT_EQ(error.radius(), Radius::kCluster);
      said = error.what();
    }
  });
  return said;
}

bool holds(const std::string& said, std::string_view part) { return said.find(part) != std::string::npos; }

TEST(ControlChannelTest, SoundMessagesPassTheSameWay) {
  EXPECT_EQ(follower_says([](Bytes&) {}), "");
}

TEST(ControlChannelTest, EveryFlippedBitIsSeen) {
  for (std::size_t bit = 0; bit < (16 + 6) * 8; ++bit) {
    const std::string said =
        follower_says([bit](Bytes& message) { message[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8)); });
    EXPECT_TRUE(holds(said, bit < 32 ? "version" : "checksum")) << bit << said;
  }
}

TEST(ControlChannelTest, TruncationIsSeen) {
  EXPECT_TRUE(holds(follower_says([](Bytes& message) { message.resize(15); }), "15 bytes"));
  EXPECT_TRUE(holds(follower_says([](Bytes& message) { message.resize(20); }), "checksum"));
}

TEST(ControlChannelTest, AGapNamesBothNumbers) {
  std::string said;
  run_ranks({.ring = 2}, [&](Ranks& ranks) {
    ControlChannel channel(*ranks.world);
    if (ranks.leader()) {
      channel.send(text("first"));
      channel.send(text("second"));
      return;
    }
    broadcast(*ranks.world, {}, 0, "lost");  // the first plan misses the channel
    try {
      channel.receive();
    } catch (const Error& error) {
      said = error.what();
    }
  });
  EXPECT_TRUE(holds(said, "found 1, expected 0")) << said;
}

}  // namespace
}  // namespace zoetrope
