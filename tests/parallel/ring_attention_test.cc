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

// Where a message takes a second nobody sends queries; within a host, by the rates of the host, a lone row does.
TEST(RingAttention, SpansWithinAHostAreJudgedByItsOwnRates) {
  run_ranks({.ring = 2}, [](Ranks& ranks) {
    const KvLayout layout{.kv_heads = 1, .head_dim = 128, .precision = Precision::kBf16};
    RingRates rates{.page_seconds = 1e-6, .row_seconds = 1e-5, .message_seconds = 1, .byte_seconds = 1e-12};
    RingAttention attention(*ranks.ring, {}, layout, RingPass::kLeastTime, rates);
    RingJob job;
    job.span = {.members = 2, .first_member = 0, .ring = 2};
    job.first_token = 64 * 256;
    job.tokens = 1;
    const bool by_messages = attention.passes_pages(8, job, /*shared=*/false);
    EXPECT_TRUE(attention.passes_pages(8, job, /*shared=*/true));
    rates.message_seconds = 1e-6;
    attention.set_host_rates(rates);
    EXPECT_FALSE(attention.passes_pages(8, job, /*shared=*/true));
    EXPECT_EQ(attention.passes_pages(8, job, /*shared=*/false), by_messages) << "the network's rates stay";
  });
}

TEST(RingAttention, MemoryForPagesThatVisitIsBounded) {
  const KvLayout layout{.kv_heads = 1, .head_dim = 128, .precision = Precision::kBf16};
  const auto page = static_cast<std::int64_t>(layout.page_bytes());
  const auto pages = [&](int members, std::int64_t all) {
    return RingAttention::visiting_bytes(layout, {.members = members, .first_member = 0, .ring = members}, all) / page;
  };
  EXPECT_EQ(pages(1, 1000), 0) << "nobody visits";
  EXPECT_EQ(pages(2, 1), 1) << "the page of the first member";
  EXPECT_EQ(pages(2, 11), 6) << "one visit, of the larger half";
  EXPECT_EQ(pages(4, 12), 6) << "three visits of three pages, two at a time";
  for (const int members : {2, 4, 8, 16}) {
    const std::int64_t most = pages(members, 1 << 20) * page;
    EXPECT_LE(most, std::int64_t{2} * ((1 << 20) / 64 + 1) * page) << "a class at a time at most";
    EXPECT_LE(pages(members, 1 << 12) * page, std::int64_t{65} << 20) << "a million tokens: about 32 MiB a visit";
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Ring, testing::Values(1, 2, 3, 4, 8, 16));

}  // namespace
}  // namespace zoetrope
