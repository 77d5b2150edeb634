// Spans that grow: where pages go, that nothing is promised twice, that what is admitted always ends.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "scheduler/planner.h"
#include "tests/scheduler/draws.h"
#include "tests/scheduler/simulated_ranks.h"

namespace zoetrope {
namespace {

Request request(std::uint64_t id, std::int64_t prompt, std::int64_t answer) {
  return {RequestId{id}, prompt, answer, {}};
}

SchedulerLimits limits(std::int32_t pages, std::int64_t chunk = 600) {
  return {.context_tokens_max = 1000000,
          .pages_per_member = pages,
          .chunk_tokens_max = chunk,
          .sequences_max = 8,
          .span_pages = 16};
}

// Runs until nothing is left; returns the members of every growth.
std::vector<int> run(Planner& planner, SimulatedRanks& ranks) {
  std::vector<int> members;
  for (int steps = 0; !planner.idle() && steps < 100000; ++steps) {
    const StepPlan plan = planner.plan();
    for (const Growth& growth : plan.growths) {
      members.push_back(growth.span.members);
    }
    ranks.execute(plan);
    planner.commit(draws(plan));
    EXPECT_EQ(planner.invariants_broken(), "");
  }
  EXPECT_TRUE(planner.idle());
  return members;
}

std::vector<int> grown(int ring, const SchedulerLimits& bounds, const Request& r) {
  Planner planner({.ring = ring, .tp = 1}, bounds);
  SimulatedRanks ranks;
  EXPECT_EQ(planner.refusal(r), std::nullopt);
  ranks.know(r);
  planner.submit(r);
  return run(planner, ranks);
}

TEST(PlannerGrowth, AwkwardLengths) {
  for (const std::int64_t prompt : {255, 256, 257}) {
    const bool two = prompt > 256;
    EXPECT_EQ(grown(2, limits(1), request(1, prompt, 3)),
              prompt + 3 > 256 && !two ? std::vector<int>{2} : std::vector<int>{})
        << prompt;
    EXPECT_EQ(grown(4, limits(1), request(1, prompt, 600)), (two ? std::vector<int>{4} : std::vector<int>{2, 4}))
        << prompt;
    EXPECT_EQ(grown(4, limits(4), request(1, prompt, 1)), std::vector<int>{}) << "it fits on one";
  }
  EXPECT_EQ(grown(8, limits(1), request(1, 1, 256 * 8 - 1)), (std::vector<int>{2, 4, 8}))
      << "one page on each in the end";
  EXPECT_EQ(grown(8, limits(1), request(1, 1, 256 * 5)), (std::vector<int>{2, 4, 8}))
      << "two members stay without pages";
  EXPECT_EQ(grown(6, limits(3), request(1, 700, 256 * 8)), (std::vector<int>{2, 4}))
      << "a ring that is no power of two";
}

// The pages that a growth moves are read while the step is computed: nobody is given their places in it while others
// are free.
TEST(PlannerGrowth, PlacesThatAreLeftAreGivenToNobodyInTheStep) {
  const auto taken_at_once = [](const SchedulerLimits& bounds, const std::vector<Request>& requests) {
    Planner planner({.ring = 2, .tp = 1}, bounds);
    SimulatedRanks ranks;
    for (const Request& r : requests) {
      ranks.know(r);
      planner.submit(r);
    }
    std::vector<std::int32_t> table;
    while (!planner.idle()) {
      const StepPlan plan = planner.plan();
      for (const Chunk& chunk : plan.chunks) {
        if (!plan.growths.empty() && chunk.id == RequestId{1}) {
          std::int64_t taken = 0;
          const Span& span = plan.growths[0].span;
          for (std::size_t i = 0; i < chunk.new_pages.size(); ++i) {
            for (std::size_t page = 1; page < table.size(); page += 2) {  // member 0 leaves the odd ones
              taken += span.owner(static_cast<std::int64_t>(table.size() + i)) == span.first_member &&
                               chunk.new_pages[i] == table[page]
                           ? 1
                           : 0;
            }
          }
          return taken;
        }
        if (chunk.id == RequestId{1}) {
          table.insert(table.end(), chunk.new_pages.begin(), chunk.new_pages.end());
        }
      }
      ranks.execute(plan);
      planner.commit(draws(plan));
    }
    return std::int64_t{-1};
  };
  SchedulerLimits much = limits(40);
  much.span_pages = 1;
  much.work.page_transfer = 1;
  EXPECT_EQ(taken_at_once(much, {request(1, 3000, 4), request(2, 500, 1)}), 0);
  EXPECT_EQ(taken_at_once(limits(2), {request(1, 500, 300)}), 1) << "nothing else is free for the third page";
}

TEST(PlannerGrowth, BeginsOnAsFewMembersAsHoldThePrompt) {
  Planner planner({.ring = 4, .tp = 1}, limits(10));
  planner.submit(request(1, 256, 256 * 30));
  const StepPlan plan = planner.plan();
  EXPECT_EQ(plan.starts.at(0).span.members, 1);
  planner.commit(draws(plan));
  planner.submit(request(2, 256 * 4, 256 * 7));
  EXPECT_TRUE(planner.plan().starts.empty()) << "the pages of four members are promised to the first: 8 of 10 each";
  EXPECT_EQ(planner.invariants_broken(), "");
}

// The mutant: pages that stay where they were although their owner is another now.
TEST(PlannerGrowth, TheSimulatedRanksSeeAPageThatWasNotMoved) {
  Planner planner({.ring = 2, .tp = 1}, limits(2));
  SimulatedRanks ranks;
  const Request r = request(1, 500, 300);
  ranks.know(r);
  planner.submit(r);
  for (;;) {
    const StepPlan plan = planner.plan();
    if (!plan.growths.empty()) {
      ASSERT_EQ(plan.growths[0].pages.size(), 1U);
      SimulatedRanks mistaken = ranks;
      ::testing::TestPartResultArray failures;
      {
        const ::testing::ScopedFakeTestPartResultReporter reporter(&failures);
        mistaken.misplace(plan.growths[0]);
      }
      EXPECT_GT(failures.size(), 0);
      return;
    }
    ranks.execute(plan);
    planner.commit(draws(plan));
  }
}

// A shared prefix stays where it is: with it, a member may have to hold more than its share at the end. Where that can
// never be, the prefix is computed again elsewhere.
TEST(PlannerGrowth, APrefixInTheWayIsNotShared) {
  Planner planner({.ring = 2, .tp = 1}, limits(3));
  SimulatedRanks ranks;
  for (std::uint64_t id = 1; id <= 2; ++id) {
    Request r = request(id, 600, id == 1 ? 100 : 900);
    r.tokens.assign(600, 3);
    ranks.know(r);
    planner.submit(r);
    run(planner, ranks);
  }
  EXPECT_EQ(ranks.computed_rows(), 699 + 1499);
}

TEST(PlannerGrowth, APrefillThatIsLeftAloneTakesIdleMembers) {
  SchedulerLimits bounds = limits(200, 512);
  bounds.span_pages = 4;
  Planner planner({.ring = 4, .tp = 1}, bounds);
  SimulatedRanks ranks;
  for (const Request& r : {request(1, 256 * 40, 4), request(2, 2000, 1)}) {
    ranks.know(r);
    planner.submit(r);
  }
  EXPECT_EQ(run(planner, ranks), (std::vector<int>{2, 4})) << "when the other one is gone";
  // Messages in every step take most of what is saved: it stays.
  bounds.work.exchange = 5000000;
  Planner far({.ring = 4, .tp = 1}, bounds);
  SimulatedRanks apart;
  for (const Request& r : {request(1, 256 * 40, 4), request(2, 2000, 1)}) {
    apart.know(r);
    far.submit(r);
  }
  EXPECT_EQ(run(far, apart), std::vector<int>{});
  // What would be sent costs more than what is left to compute: it stays.
  bounds.work.exchange = 0;
  bounds.work.page_transfer = std::int64_t{1} << 40;
  Planner dear({.ring = 4, .tp = 1}, bounds);
  SimulatedRanks others;
  for (const Request& r : {request(1, 256 * 40, 4), request(2, 2000, 1)}) {
    others.know(r);
    dear.submit(r);
  }
  EXPECT_EQ(run(dear, others), std::vector<int>{});
}

TEST(PlannerGrowth, RandomWorkloadsAddUp) {
  std::int64_t growths = 0;
  for (unsigned seed = 1; seed <= 12; ++seed) {
    std::mt19937 random(seed);
    const int ring = 2 + static_cast<int>(random() % 7);
    SchedulerLimits bounds = limits(2 + static_cast<std::int32_t>(random() % 8), 16 + random() % 700);
    bounds.span_pages = 1 + static_cast<int>(random() % 4);
    bounds.work.page_transfer = static_cast<std::int64_t>(random() % 2) * 100000;
    Planner planner({.ring = ring, .tp = 1}, bounds), twin({.ring = ring, .tp = 1}, bounds);
    SimulatedRanks ranks;
    std::uint64_t next_id = 0, finished = 0;
    for (int step = 0; step < 500 || (!planner.idle() && step < 100000); ++step) {
      if (step < 500 && random() % 6 == 0) {
        Request r = request(++next_id, 1 + random() % 1500, 1 + random() % 600);
        if (random() % 2 == 0) {  // one of few texts, cut anywhere
          r.tokens.resize(static_cast<std::size_t>(r.prompt_tokens));
          const auto text = static_cast<std::int32_t>(random() % 3);
          for (std::size_t i = 0; i < r.tokens.size(); ++i) {
            r.tokens[i] = text * 10000 + static_cast<std::int32_t>(i);
          }
        }
        if (planner.refusal(r)) {
          ++finished;
          continue;
        }
        ranks.know(r);
        planner.submit(r);
        twin.submit(r);
      }
      const StepPlan plan = planner.plan();
      ASSERT_EQ(plan, twin.plan());
      ranks.execute(plan);
      std::vector<Drawn> drawn = draws(plan, static_cast<std::int32_t>(random() % 3));
      for (Drawn& d : drawn) {
        d.ended = random() % 300 == 0;
      }
      twin.commit(drawn);
      finished += planner.commit(drawn).size();
      ASSERT_EQ(planner.invariants_broken(), "") << "seed " << seed << " step " << step;
      if (::testing::Test::HasFailure()) {
        FAIL() << "seed " << seed << " step " << step;
      }
    }
    EXPECT_TRUE(planner.idle()) << "seed " << seed;
    EXPECT_EQ(finished, next_id);
    growths += ranks.growths();
  }
  EXPECT_GT(growths, 100);
}

}  // namespace
}  // namespace zoetrope
