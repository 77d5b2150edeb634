#include "scheduler/step_plan.h"

#include <gtest/gtest.h>

#include <random>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

StepPlan example() {
  StepPlan plan;
  plan.step = 41;
  plan.starts = {{RequestId{7}, {.members = 2, .first_member = 3, .ring = 4}},
                 {RequestId{8}, {.members = 1, .first_member = 0, .ring = 4}, 300, {4, 9}, 2}};
  plan.growths = {{RequestId{9}, {.members = 4, .first_member = 1, .ring = 4}, {8, 3}}};
  plan.ahead = {{RequestId{7}, 1, 2}, {RequestId{7}, 2, 3}};
  plan.encode = {{RequestId{7}, 0, 3}, {RequestId{7}, 1, 2}};
  plan.frames = FramesWanted::kSoon;
  plan.chunks = {{RequestId{7}, 256, 3, {5, 6}, {258}, {}}, {RequestId{9}, 10, 1, {}, {10}, {123}, 2}};
  plan.truncations = {{RequestId{9}, 10}};
  plan.releases = {RequestId{1}, RequestId{2}};
  return plan;
}

TEST(StepPlan, SurvivesTheWire) {
  const StepPlan plan = example();
  EXPECT_EQ(decoded(encoded(plan)), plan);
  StepPlan last;
  last.stop = true;
  EXPECT_EQ(decoded(encoded(last)), last);
}

TEST(StepPlan, EveryTruncationIsRefused) {
  const auto bytes = encoded(example());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(decoded(std::span(bytes).first(length)), Error) << length;
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_THROW(decoded(longer), Error);
}

TEST(StepPlan, FlippedBitsNeverCrashOrAskForMemory) {
  const auto bytes = encoded(example());
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    auto copy = bytes;
    for (unsigned flips = 1 + random() % 4; flips-- > 0;) {
      copy[random() % copy.size()] ^= static_cast<std::byte>(1U << (random() % 8));
    }
    try {
      decoded(copy);
    } catch (const Error& error) {
      EXPECT_EQ(error.radius(), Radius::kCluster);
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace zoetrope
