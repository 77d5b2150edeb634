#include "parallel/expert_exchange.h"

#include <gtest/gtest.h>

#include "monitoring/error.h"
#include "parallel/ranks.h"
#include "tests/parallel/expert_exchange_suite.h"

namespace zoetrope {
namespace {

class Exchange : public testing::TestWithParam<int> {};

TEST_P(Exchange, EqualsTheSerialReferenceAndTheClosedForm) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_expert_exchange(*ranks.world); });
}

TEST_P(Exchange, SendsNextToNothingBeyondTheLeast) {
  run_ranks({.ring = GetParam()}, [](Ranks& ranks) { check_expert_exchange_bytes(*ranks.world); });
}

INSTANTIATE_TEST_SUITE_P(Threads, Exchange, testing::Values(1, 2, 3, 4, 7, 8));

TEST(ExpertExchangeBytes, AnAllGatherPosingAsDispatchIsCaught) {
  for (const int n : {2, 3, 4, 8}) {
    run_ranks({.ring = n}, [](Ranks& ranks) { check_that_the_mutant_is_caught(*ranks.world); });
  }
}

// In bf16 mode a token travels as an expert's product will read it: rounded. One that stays is rounded by the product.
TEST(ExpertExchange, TokensTravelAsProductsReadThem) {
  run_ranks({.ring = 2}, [](Ranks& ranks) {
    ThreadPool pool(1);
    ExpertExchange exchange(*ranks.world, {nullptr, &pool, Precision::kBf16}, 1, {{ExpertTable::contiguous(2, 2)}});
    const float x = 1.0f + 3.0f / 1024;
    *exchange.own_rows(1).data = x;
    const std::int32_t expert = 1 - ranks.place.rank;
    const auto& arrived = exchange.dispatch(Rows<const std::int32_t>(&expert, 1, 1));
    ASSERT_EQ(arrived.x.rows, 2);
    EXPECT_EQ(*arrived.x.row(0), x);
    EXPECT_EQ(*arrived.x.row(1), round_bf16(x));
    *exchange.outputs().data = 0;
    exchange.combine();
  });
}

TEST(ExpertExchangeDeath, AChosenExpertExistsOnce) {
  Ranks ranks = self_ranks();
  ThreadPool pool(1);
  ExpertExchange exchange(*ranks.world, {nullptr, &pool, Precision::kFp32}, 1, {{ExpertTable::contiguous(4, 1)}});
  *exchange.own_rows(1).data = 1;
  const std::int32_t twice[] = {2, 2};
  const std::int32_t beyond[] = {0, 4};
  EXPECT_DEATH(exchange.dispatch(Rows<const std::int32_t>(twice, 1, 2)), "distinct");
  EXPECT_DEATH(exchange.dispatch(Rows<const std::int32_t>(beyond, 1, 2)), "exists");
}

}  // namespace
}  // namespace zoetrope
