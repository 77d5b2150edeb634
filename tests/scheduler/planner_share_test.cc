// Who decodes is given a row in every step, and the steps stay short, however long the prefill beside it is.
#include <gtest/gtest.h>

#include <algorithm>

#include "scheduler/planner.h"
#include "tests/scheduler/draws.h"

namespace zoetrope {
namespace {

SchedulerLimits limits(int span) {
  return {.context_tokens_max = 2000000,
          .pages_per_member = 5000,
          .chunk_tokens_max = 1024,
          .sequences_max = 8,
          .span_members = span};
}

TEST(PlannerShare, ADecodeGetsItsRowAndChunksOfTheSameTime) {
  for (const int span : {1, 4}) {
    const SchedulerLimits bounds = limits(span);
    Planner planner({.ring = span, .tp = 1}, bounds);
    const std::int64_t prompt = 1000000;
    planner.submit({RequestId{1}, 10, 100000, {}});
    planner.commit(draws(planner.plan()));
    planner.submit({RequestId{2}, prompt, 2, {}});
    const std::int64_t budget = 1024 * (bounds.work.row + bounds.full_chunk_context);
    std::int64_t least = budget, steps = 0, computed = 0;
    while (computed < prompt) {
      const StepPlan plan = planner.plan();
      ASSERT_EQ(plan.chunks.size(), 2U);
      EXPECT_EQ(plan.chunks[0].id, RequestId{1});
      EXPECT_EQ(plan.chunks[0].tokens, 1);
      const Chunk& prefill = plan.chunks[1];
      computed = prefill.first_token + prefill.tokens;
      const std::int64_t work = bounds.work.of_rows(prefill.first_token, prefill.tokens) / span;
      EXPECT_LE(work, budget + budget / 10);
      if (prefill.first_token > bounds.full_chunk_context && computed < prompt) {
        least = std::min(least, work);
      } else if (computed < prompt) {
        EXPECT_GE(prefill.tokens, (1024 - 64) * span) << "short contexts are taken in whole chunks";
      }
      planner.commit(draws(plan));
      ++steps;
    }
    if (span == 1) {
      EXPECT_GT(least, budget * 9 / 10) << "the chunks vary by less than a tenth";
    }
    EXPECT_GT(steps, 900 / span);
  }
}

TEST(PlannerShare, NobodyDecodesAndChunksAreWhole) {
  Planner planner({}, limits(1));
  planner.submit({RequestId{1}, 400000, 2, {}});
  for (std::int64_t at = 0; at + 1024 < 400000; at += 1024) {
    const StepPlan plan = planner.plan();
    ASSERT_EQ(plan.chunks.at(0).tokens, 1024);
    planner.commit({});
  }
}

// However dear a row is, a prefill goes on.
TEST(PlannerShare, APrefillAlwaysAdvances) {
  SchedulerLimits bounds = limits(1);
  bounds.chunk_tokens_max = 9;
  bounds.full_chunk_context = 0;
  bounds.work.row = 1;
  Planner planner({}, bounds);
  planner.submit({RequestId{1}, 10, 10000, {}});
  planner.commit(draws(planner.plan()));
  planner.commit(draws(planner.plan()));
  planner.submit({RequestId{2}, 1000, 1, {}});
  for (int step = 0; step < 900; ++step) {
    const StepPlan plan = planner.plan();
    ASSERT_EQ(plan.chunks.size(), 2U);
    EXPECT_GE(plan.chunks[1].tokens, 1);
    planner.commit(draws(plan));
  }
}

}  // namespace
}  // namespace zoetrope
