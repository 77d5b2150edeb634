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

// In bf16 mode a value that is no bf16 number would change on its way: that is a bug of the caller, and loud.
TEST(ExpertExchangeDeath, UnroundedValuesAreNotNarrowed) {
  EXPECT_DEATH(run_ranks({.ring = 2},
                         [](Ranks& ranks) {
                           ThreadPool pool(1);
                           ExpertExchange exchange(*ranks.world, {nullptr, &pool, Precision::kBf16}, 1,
                                                   {{ExpertTable::contiguous(2, 2)}});
                           *exchange.own_rows(1).data = 1.0f + 1.0f / 1024;
                           const std::int32_t expert = 1 - ranks.place.rank;
                           exchange.dispatch(Rows<const std::int32_t>(&expert, 1, 1));
                         }),
               "bf16 numbers");
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
