#include "parallel/ring_rates.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/body.h"
#include "parallel/collectives.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

TEST(RingRates, AreMeasuredAndTheSameForEveryMember) {
  run_ranks({.ring = 3}, [](Ranks& ranks) {
    ThreadPool pool(1);
    const Compute compute{&body(best_body()), &pool, Precision::kBf16};
    const KvLayout layout{.kv_heads = 2, .head_dim = 64, .precision = Precision::kBf16};
    const RingRates rates = measured_rates(*ranks.ring, compute, layout, 8);
    EXPECT_TRUE(all_equal(*ranks.ring, std::as_bytes(std::span(&rates, 1)), "rates"));
    EXPECT_TRUE(rates.known());
    EXPECT_GE(rates.row_seconds, 0);
    EXPECT_GT(rates.partial_seconds, 0);
    EXPECT_GT(rates.message_seconds, 0);
    EXPECT_GT(rates.byte_seconds, 1e-13);  // below 10 TB/s
    EXPECT_LT(rates.page_seconds, 1);
    EXPECT_GE(rates.hidden, 0);
    EXPECT_LE(rates.hidden, 1);
  });
}

TEST(RingRates, WithinHostsAreOfTheFirstMembersThatShareOne) {
  run_ranks({.ring = 5}, [](Ranks& ranks) {
    ThreadPool pool(1);
    const Compute compute{&body(best_body()), &pool, Precision::kBf16};
    const KvLayout layout{.kv_heads = 2, .head_dim = 64, .precision = Precision::kBf16};
    const RingRates far{.page_seconds = 1, .message_seconds = 100, .byte_seconds = 100};
    const std::vector<std::int32_t> apart{3, 1, 4, -7, -8};
    EXPECT_FALSE(rates_within_hosts(*ranks.ring, compute, layout, 8, far, apart).known());
    const std::vector<std::int32_t> hosts{3, 1, 1, 4, 1};  // members 1 and 2; 4 has nobody left
    const RingRates rates = rates_within_hosts(*ranks.ring, compute, layout, 8, far, hosts);
    EXPECT_TRUE(all_equal(*ranks.ring, std::as_bytes(std::span(&rates, 1)), "rates"));
    EXPECT_EQ(rates.page_seconds, 1) << "arithmetic is the same everywhere";
    EXPECT_GT(rates.message_seconds, 0);
    EXPECT_LT(rates.message_seconds, 1);
    EXPECT_LT(rates.byte_seconds, 1);
  });
}

TEST(RingRates, NobodyIsMeasuredAlone) {
  run_ranks({.ring = 1}, [](Ranks& ranks) {
    ThreadPool pool(1);
    const Compute compute{&body(best_body()), &pool, Precision::kFp32};
    EXPECT_FALSE(measured_rates(*ranks.ring, compute, {.kv_heads = 1, .head_dim = 16, .precision = Precision::kFp32}, 1)
                     .known());
  });
}

}  // namespace
}  // namespace zoetrope
