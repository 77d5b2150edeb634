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

INSTANTIATE_TEST_SUITE_P(Threads, Exchange, testing::Values(1, 2, 3, 4, 7, 8));

TEST(ExpertExchangeBytes, AnAllGatherPosingAsDispatchIsCaught) {
  for (const int n : {2, 3, 4, 8}) {
    run_ranks({.ring = n}, [](Ranks& ranks) { check_that_the_mutant_is_caught(*ranks.world); });
  }
}

TEST(ExpertTableTest, DealsAllExpertsContiguously) {
  const ExpertTable table = ExpertTable::contiguous(10, 4);
  EXPECT_EQ(table.rank_of, (std::vector<int>{0, 0, 0, 1, 1, 1, 2, 2, 3, 3}));
  EXPECT_EQ(table.experts_of(2), (std::vector<int>{6, 7}));
  try {
    ExpertTable::contiguous(3, 4);
    FAIL() << "more ranks than experts";
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    EXPECT_NE(std::string(error.what()).find("3 experts for 4 ranks"), std::string::npos) << error.what();
  }
}

// In bf16 mode a token travels as an expert's product will read it: rounded.
TEST(ExpertExchange, TokensTravelAsProductsReadThem) {
  run_ranks({.ring = 2}, [](Ranks& ranks) {
    ExpertExchange exchange(*ranks.world, ExpertTable::contiguous(2, 2), 1, Precision::kBf16);
    const float x = 1.0f + 3.0f / 1024;
    const std::int32_t expert = 1 - ranks.place.rank;
    const auto& arrived = exchange.dispatch(Rows<const float>(&x, 1, 1), Rows<const std::int32_t>(&expert, 1, 1));
    ASSERT_EQ(arrived.x.rows, 1);
    EXPECT_EQ(*arrived.x.row(0), round_bf16(x));
    exchange.combine(arrived.x);
  });
}

TEST(ExpertExchangeDeath, AChosenExpertExistsOnce) {
  Ranks ranks = self_ranks();
  ExpertExchange exchange(*ranks.world, ExpertTable::contiguous(4, 1), 1, Precision::kFp32);
  const float x = 1;
  const std::int32_t twice[] = {2, 2};
  const std::int32_t beyond[] = {0, 4};
  EXPECT_DEATH(exchange.dispatch(Rows<const float>(&x, 1, 1), Rows<const std::int32_t>(twice, 1, 2)), "distinct");
  EXPECT_DEATH(exchange.dispatch(Rows<const float>(&x, 1, 1), Rows<const std::int32_t>(beyond, 1, 2)), "exists");
}

}  // namespace
}  // namespace zoetrope
