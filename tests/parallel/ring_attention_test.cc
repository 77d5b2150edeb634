#include "parallel/ring_attention.h"

#include <gtest/gtest.h>

#include "parallel/ranks.h"
#include "tests/parallel/ring_attention_suite.h"

namespace zoetrope {
namespace {

class Ring : public testing::TestWithParam<int> {};

TEST_P(Ring, GivesTheBitsOfOneMemberAndTheBytesOfTheClosedForms) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_ring_attention(*ranks.world, RingTransport::kMessages); });
}

TEST_P(Ring, GivesTheSameBitsInSharedMemoryAndMovesFencesOnly) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_ring_attention(*ranks.world, RingTransport::kShared); });
}

TEST_P(Ring, DecodesWithTrafficThatDoesNotGrow) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_that_decode_traffic_is_flat(*ranks.world); });
}

INSTANTIATE_TEST_SUITE_P(Threads, Ring, testing::Values(1, 2, 3, 4, 8, 16));

}  // namespace
}  // namespace zoetrope
