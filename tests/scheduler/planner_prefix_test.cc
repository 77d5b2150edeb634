// Requests whose prompts begin alike: the common part is computed once, in whatever order they come, go and fail.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "scheduler/planner.h"
#include "tests/scheduler/simulated_ranks.h"

namespace zoetrope {
namespace {

constexpr std::int32_t kPad = 7;

SchedulerLimits limits(std::int32_t pages = 100, std::int64_t chunk = 600) {
  return {.context_tokens_max = 100000,
          .pages_per_member = pages,
          .chunk_tokens_max = chunk,
          .sequences_max = 8,
          .span_pages = 16};
}

// A question of `question` tokens about a film of `units` pairs of frames of 40 tokens.
Request about(std::uint64_t id, std::uint64_t film, std::int64_t units, std::int64_t question,
              std::int64_t answer = 3) {
  Request r;
  r.id = RequestId{id};
  r.new_tokens_max = answer;
  r.tokens = {1, 2, 3};
  for (std::int64_t i = 0; i < units; ++i) {
    r.tokens.push_back(static_cast<std::int32_t>(50 + i));  // the time of the pair
    r.units.push_back({static_cast<std::int64_t>(r.tokens.size()),
                       40,
                       i % 5 == 0,
                       {film * 1000 + static_cast<std::uint64_t>(i), 0, 0, 0}});
    r.tokens.insert(r.tokens.end(), 40, kPad);
  }
  for (std::int64_t i = 0; i < question; ++i) {
    r.tokens.push_back(static_cast<std::int32_t>(1000 + id * 100 + static_cast<std::uint64_t>(i)));
  }
  r.prompt_tokens = static_cast<std::int64_t>(r.tokens.size());
  return r;
}

// One planner and its simulated ranks.
struct Job {
  Planner planner;
  SimulatedRanks ranks;
  std::map<RequestId, std::int64_t> cached;  // tokens, of those that started
  std::map<RequestId, int> encoded;
  std::map<RequestId, Span> spans;

  Job(Layout layout, const SchedulerLimits& bounds) : planner(layout, bounds) {}

  void submit(const Request& request) {
    ASSERT_EQ(planner.refusal(request), std::nullopt);
    ranks.know(request);
    planner.submit(request);
  }

  StepPlan step() {
    StepPlan plan = planner.plan();
    for (const SequenceStart& start : plan.starts) {
      cached[start.id] = start.cached_tokens;
      spans[start.id] = start.span;
    }
    for (const EncodeUnit& unit : plan.encode) {
      ++encoded[unit.id];
    }
    ranks.execute(plan);
    return plan;
  }

  std::vector<Finished> commit(const StepPlan& plan, bool ended = false) {
    std::vector<Drawn> drawn;
    for (const Chunk& chunk : plan.chunks) {
      if (!chunk.sampled.empty()) {
        drawn.push_back({chunk.id, {static_cast<std::int32_t>(plan.step % 50)}, ended});
      }
    }
    const auto finished = planner.commit(drawn);
    EXPECT_EQ(planner.invariants_broken(), "");
    return finished;
  }

  void run() {
    for (int steps = 0; !planner.idle(); ++steps) {
      ASSERT_LT(steps, 100000);
      commit(step());
    }
  }
};

TEST(PlannerPrefix, ALaterQuestionComputesOnlyItsOwnText) {
  Job job({}, limits());
  const Request first = about(1, 9, 20, 12), second = about(2, 9, 20, 5);
  job.submit(first);
  job.run();
  job.submit(second);
  const StepPlan plan = job.step();
  const std::int64_t film = 3 + 20 * 41;
  EXPECT_EQ(job.cached[second.id], film);
  ASSERT_EQ(plan.chunks.size(), 1U);
  EXPECT_EQ(plan.chunks[0].first_token, film);
  EXPECT_EQ(plan.chunks[0].tokens, 5);
  EXPECT_TRUE(plan.encode.empty());
  EXPECT_GE(plan.starts[0].copied_page, 0) << "the film ends inside a page";
  job.commit(plan);
  job.run();
  job.submit(about(3, 8, 20, 5));
  job.run();
  EXPECT_LT(job.cached[RequestId{3}], 10) << "another film";
}

TEST(PlannerPrefix, QuestionsThatComeTogetherWaitForTheFirst) {
  for (const int ring : {1, 2, 4}) {
    Job job({.ring = ring, .tp = 1}, limits(100, 100));
    for (std::uint64_t id = 1; id <= 5; ++id) {
      job.submit(about(id, 4, 30, 6));
    }
    job.submit(about(6, 5, 30, 6));
    job.run();
    const std::int64_t film = 3 + 30 * 41;
    EXPECT_EQ(job.ranks.computed_rows(), 2 * film + 6 * 6 + 6 * 2)
        << "two films once, six questions, two drawn tokens of each answer";
    EXPECT_EQ(job.encoded[RequestId{1}], 30);
    for (std::uint64_t id = 2; id <= 5; ++id) {
      EXPECT_EQ(job.cached[RequestId{id}], film);
      EXPECT_EQ(job.encoded[RequestId{id}], 0);
      EXPECT_EQ(job.spans[RequestId{id}], job.spans[RequestId{1}]);
    }
    if (ring > 1) {
      EXPECT_NE(job.spans[RequestId{6}].first_member, job.spans[RequestId{1}].first_member);
    }
  }
}

// Nothing of a request that failed is used; the next one that waited computes the prefix, and the others wait for that
// one.
TEST(PlannerPrefix, WhenTheFirstFailsTheNextTakesItsPlace) {
  Job job({}, limits(100, 100));
  for (std::uint64_t id = 1; id <= 4; ++id) {
    job.submit(about(id, 4, 30, 6));
  }
  for (int steps = 0; steps < 5; ++steps) {
    job.commit(job.step());
  }
  const StepPlan plan = job.step();
  job.planner.fail(RequestId{1});
  job.commit(plan);
  job.run();
  EXPECT_EQ(job.cached[RequestId{2}], 0);
  EXPECT_EQ(job.cached[RequestId{3}], 3 + 30 * 41);
  EXPECT_EQ(job.cached[RequestId{4}], 3 + 30 * 41);
}

TEST(PlannerPrefix, WhatACancelledRequestComputedIsOfUse) {
  Job job({}, limits(100, 100));
  job.submit(about(1, 4, 30, 6));
  job.submit(about(2, 4, 30, 6));
  for (int steps = 0; steps < 7; ++steps) {  // the first waits for frames
    job.commit(job.step());
  }
  job.planner.cancel(RequestId{1});
  job.run();
  EXPECT_EQ(job.cached[RequestId{2}], 512) << "the whole pages of 600 tokens";
}

TEST(PlannerPrefix, MemoryAsksForPagesBackAndNothingFails) {
  Job job({}, limits(10));
  job.submit(about(1, 1, 40, 5));  // 1648 tokens and 3: 7 pages
  job.run();
  job.submit(about(2, 2, 40, 5));
  job.run();
  job.submit(about(3, 2, 40, 5));
  job.run();
  EXPECT_EQ(job.cached[RequestId{3}], 3 + 40 * 41);
  job.submit(about(4, 1, 40, 5));
  job.run();
  EXPECT_GT(job.cached[RequestId{4}], 256) << "the tail of the first film went, not its beginning";
  EXPECT_LT(job.cached[RequestId{4}], 3 + 40 * 41);
}

TEST(PlannerPrefix, ACachedPrefixIsUsedInItsOwnSpan) {
  SchedulerLimits bounds = limits(100, 64);
  bounds.span_pages = 2;
  Job job({.ring = 4, .tp = 1}, bounds);
  job.submit(about(1, 1, 60, 5));
  job.run();
  EXPECT_EQ(job.spans[RequestId{1}].members, 4);
  job.submit(about(2, 7, 3, 5));
  job.submit(about(3, 1, 60, 5));
  job.run();
  EXPECT_EQ(job.spans[RequestId{2}].members, 1);
  EXPECT_EQ(job.spans[RequestId{3}], job.spans[RequestId{1}]);
  EXPECT_EQ(job.cached[RequestId{3}], 3 + 60 * 41);
}

// The next turn of a conversation begins with the prompt and the answer of the last one.
TEST(PlannerPrefix, AnAnswerIsPartOfThePrefixOfTheNextTurn) {
  Job job({}, limits());
  const Request first = about(1, 9, 20, 12, 40);
  job.submit(first);
  std::vector<std::int32_t> answer;
  while (!job.planner.idle()) {
    const StepPlan plan = job.step();
    for (const Chunk& chunk : plan.chunks) {
      answer.insert(answer.end(), chunk.drawn_tokens.begin(), chunk.drawn_tokens.end());
    }
    job.commit(plan);
  }
  Request next = first;
  next.id = RequestId{2};
  next.tokens.insert(next.tokens.end(), answer.begin(), answer.end());
  next.tokens.insert(next.tokens.end(), {901, 902, 903});
  next.prompt_tokens = static_cast<std::int64_t>(next.tokens.size());
  job.submit(next);
  job.step();
  EXPECT_EQ(job.cached[next.id], next.prompt_tokens - 3);
}

// The mutant: a planner that is told of the same film where the ranks see another one shares what it must not.
TEST(PlannerPrefix, TheSimulatedRanksSeeAWrongPrefix) {
  Job job({}, limits());
  job.submit(about(1, 9, 20, 12));
  job.run();
  const Request told = about(2, 9, 20, 12);
  Request seen = told;
  seen.units[10].fingerprint = {1, 2, 3, 4};
  job.ranks.know(seen);
  job.planner.submit(told);
  const StepPlan plan = job.planner.plan();
  ::testing::TestPartResultArray failures;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(&failures);
    job.ranks.execute(plan);
  }
  EXPECT_GT(failures.size(), 0);
}

// Few films, many questions, little memory; ends, failures and cancellations at random: rows are always what they
// should be, pages add up, everything finishes, and two planners that are told the same plan the same.
TEST(PlannerPrefix, RandomWorkloadsAddUp) {
  std::int64_t cached = 0, prompts = 0;
  for (unsigned seed = 1; seed <= 12; ++seed) {
    std::mt19937 random(seed);
    const int ring = 1 + static_cast<int>(random() % 5);
    SchedulerLimits bounds = limits(16, 16 + random() % 700);
    bounds.span_pages = 1 + static_cast<int>(random() % 4);
    Job job({.ring = ring, .tp = 1}, bounds);
    Planner twin({.ring = ring, .tp = 1}, bounds);
    std::uint64_t next_id = 0, finished = 0;
    std::vector<RequestId> live;
    for (int step = 0; step < 400 || (!job.planner.idle() && step < 100000); ++step) {
      if (step < 400 && random() % 3 == 0) {
        Request r = about(++next_id, 1 + random() % 4, 5 + static_cast<std::int64_t>(random() % 3) * 20,
                          1 + random() % 300, 1 + random() % 300);
        if (random() % 10 == 0) {
          r.tokens.clear();
        }
        job.submit(r);
        twin.submit(r);
        live.push_back(r.id);
        prompts += r.prompt_tokens;
      }
      if (!live.empty() && random() % 20 == 0) {
        const RequestId id = live[random() % live.size()];
        if (random() % 2 == 0) {
          job.planner.cancel(id);
          twin.cancel(id);
        } else {
          job.planner.fail(id);
          twin.fail(id);
        }
      }
      const StepPlan plan = job.step();
      ASSERT_EQ(plan, twin.plan());
      std::vector<Drawn> drawn;
      for (const Chunk& chunk : plan.chunks) {
        if (!chunk.sampled.empty()) {
          drawn.push_back({chunk.id, {static_cast<std::int32_t>(random() % 3)}, random() % 40 == 0});
        }
      }
      twin.commit(drawn);
      for (const Finished& f : job.planner.commit(drawn)) {
        std::erase(live, f.id);
        ++finished;
      }
      ASSERT_EQ(job.planner.invariants_broken(), "") << "seed " << seed << " step " << step;
      if (::testing::Test::HasFailure()) {
        FAIL() << "seed " << seed << " step " << step;
      }
    }
    EXPECT_TRUE(job.planner.idle()) << "seed " << seed;
    EXPECT_EQ(finished, next_id);
    for (const auto& [id, tokens] : job.cached) {
      cached += tokens;
    }
  }
  EXPECT_GT(cached, prompts / 4) << "most prompts share something";
}

}  // namespace
}  // namespace zoetrope
