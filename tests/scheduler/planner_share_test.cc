// Who decodes is given a row in every step, and the steps stay short, however long the prefill beside it is. Short
// prefills are given a part of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "scheduler/planner.h"
#include "tests/scheduler/draws.h"

namespace zoetrope {
namespace {

SchedulerLimits limits(int span) {
  return {.context_tokens_max = 2000000,
          .pages_per_member = 5000,
          .chunk_tokens_max = 1024,
          .sequences_max = 8,
          .span_pages = 16,
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

SchedulerLimits prefills(std::int32_t pages) {
  return {.context_tokens_max = 100000, .pages_per_member = pages, .chunk_tokens_max = 64, .sequences_max = 8};
}

Request prompt(std::uint64_t id, std::int64_t tokens, std::int64_t answer) {
  return {RequestId{id}, tokens, answer, {}};
}

// Ten tokens of text and so many units of 20.
Request film(std::uint64_t id, std::int64_t units) {
  Request request = prompt(id, 10 + units * 20, 1);
  for (std::int64_t unit = 0; unit < units; ++unit) {
    request.units.push_back({10 + unit * 20, 20, true});
  }
  return request;
}

// Rows of each sequence in a step.
std::map<std::uint64_t, std::int64_t> rows_in(const StepPlan& plan) {
  std::map<std::uint64_t, std::int64_t> rows;
  for (const Chunk& chunk : plan.chunks) {
    rows[static_cast<std::uint64_t>(chunk.id)] += chunk.tokens;
  }
  return rows;
}

using RowsIn = std::map<std::uint64_t, std::int64_t>;

// A prompt of many steps leaves a quarter of each to those behind it, the shortest first; alone it takes whole steps.
TEST(PlannerShare, ShortPromptsDoNotWaitForTheEndOfALongOne) {
  Planner planner({}, prefills(300));
  planner.submit(prompt(1, 20000, 4));
  StepPlan plan = planner.plan();
  EXPECT_EQ(rows_in(plan), (RowsIn{{1, 64}}));
  planner.commit(draws(plan));
  planner.submit(prompt(2, 10000, 4));
  planner.submit(prompt(3, 40, 1));
  planner.submit(prompt(4, 6, 1));
  plan = planner.plan();
  EXPECT_EQ(rows_in(plan), (RowsIn{{1, 48}, {4, 6}, {3, 10}})) << "the fewest rows first";
  planner.commit(draws(plan));
  plan = planner.plan();
  EXPECT_EQ(rows_in(plan), (RowsIn{{1, 48}, {3, 16}}));
  planner.commit(draws(plan));
  plan = planner.plan();
  EXPECT_EQ(rows_in(plan), (RowsIn{{1, 48}, {3, 14}, {2, 2}})) << "what they leave is for the next";
  EXPECT_EQ(planner.commit(draws(plan)).size(), 1U);
  plan = planner.plan();
  EXPECT_EQ(rows_in(plan), (RowsIn{{1, 48}, {2, 16}}));
  planner.cancel(RequestId{2});
  planner.commit(draws(plan));
  plan = planner.plan();
  EXPECT_EQ(rows_in(plan), (RowsIn{{1, 64}})) << "nobody is behind it";
  EXPECT_EQ(planner.invariants_broken(), "");
}

// Short prompts that never end to come take no more than their part from the first, and the second becomes the first.
TEST(PlannerShare, ShortPromptsHoldUpALongOneByTheirPartAlone) {
  Planner planner({.ring = 2, .tp = 1}, prefills(300));
  planner.submit(prompt(1, 64 * 30, 1));
  planner.submit(prompt(2, 64 * 30, 1));
  planner.submit(prompt(3, 64 * 30, 1));
  planner.submit(prompt(4, 64 * 30, 1));
  std::map<std::uint64_t, int> ended;  // by sequence: the step
  for (int step = 0; step < 200 && ended.size() < 4; ++step) {
    for (std::uint64_t i = 0; i < 2; ++i) {
      planner.submit(prompt(100 + 2 * static_cast<std::uint64_t>(step) + i, 40, 1));
    }
    const StepPlan plan = planner.plan();
    for (const Finished& done : planner.commit(draws(plan))) {
      if (static_cast<std::uint64_t>(done.id) <= 4) {
        ended[static_cast<std::uint64_t>(done.id)] = step;
      }
    }
    ASSERT_EQ(planner.invariants_broken(), "");
  }
  ASSERT_EQ(ended.size(), 4U);
  for (const std::uint64_t id : {1, 2}) {  // the first on each member
    EXPECT_LE(ended[id], 40) << "30 steps alone, 3/4 of each";
  }
  for (const std::uint64_t id : {3, 4}) {
    EXPECT_LE(ended[id], 81);
  }
}

// A span may be behind the first on one member and the first on another: what it waits for there is its own.
TEST(PlannerShare, ASpanBehindTheFirstOnOneOfItsMembersGoesOn) {
  SchedulerLimits bounds = limits(1);
  bounds.span_members = 0;  // chosen
  Planner planner({.ring = 2, .tp = 1}, bounds);
  const auto question = [](std::uint64_t id, std::int32_t film, std::int64_t tokens, std::int64_t tail) {
    Request request = prompt(id, tokens + tail, 4);
    for (std::int64_t i = 0; i < request.prompt_tokens; ++i) {
      request.tokens.push_back(i < tokens ? film + static_cast<std::int32_t>(i % 97)
                                          : static_cast<std::int32_t>(1000 + id));
    }
    return request;
  };
  planner.submit(question(1, 1, 20000, 10));
  StepPlan plan = planner.plan();
  ASSERT_EQ(plan.starts.at(0).span.members, 2);
  for (planner.commit(draws(plan)); !planner.idle();) {
    planner.commit(draws(planner.plan()));
  }
  planner.submit(question(2, 200, 300000, 0));
  planner.submit(question(3, 1, 20000, 100));  // where the pages of the first are, on both members
  std::int64_t computed = 0;
  for (int step = 0; step < 5; ++step) {
    plan = planner.plan();
    if (step == 0) {
      ASSERT_EQ(plan.starts.size(), 2U);
      ASSERT_EQ(plan.starts[0].span.members, 1);
      ASSERT_EQ(plan.starts[1].span.members, 2);
    }
    computed += rows_in(plan)[3];
    planner.commit(draws(plan));
    ASSERT_EQ(planner.invariants_broken(), "");
  }
  EXPECT_GE(computed, 100);
}

// Several films that are computed together keep no more features in memory than three stretches with what is decoded.
TEST(PlannerShare, FilmsThatShareStepsHoldNoMoreThanThreeStretches) {
  SchedulerLimits bounds = prefills(400);
  bounds.stretch_tokens = 100;
  Planner planner({}, bounds);
  std::map<std::uint64_t, std::int64_t> named, encoded, computed;  // tokens of each film
  std::uint64_t next = 1;
  for (int step = 0; step < 300; ++step) {
    if (step % 3 == 0 && next <= 8) {  // each shorter than those before it
      planner.submit(film(next, 40 - 4 * static_cast<std::int64_t>(next)));
      ++next;
    }
    const StepPlan plan = planner.plan();
    for (const EncodeUnit& unit : plan.ahead) {
      named[static_cast<std::uint64_t>(unit.id)] += 20;
    }
    for (const EncodeUnit& unit : plan.encode) {
      encoded[static_cast<std::uint64_t>(unit.id)] += 20;
    }
    for (const Chunk& chunk : plan.chunks) {
      computed[static_cast<std::uint64_t>(chunk.id)] = chunk.first_token + chunk.tokens;
    }
    std::int64_t tokens = 0;  // named and not computed, in whole units
    for (const auto& [id, of] : named) {
      tokens += of - std::max<std::int64_t>(0, computed[id] - 10) / 20 * 20;
    }
    EXPECT_LE(tokens, 300) << "step " << step;
    planner.commit(draws(plan));
    ASSERT_EQ(planner.invariants_broken(), "");
  }
  EXPECT_TRUE(planner.idle() || planner.plan().chunks.empty());
  for (std::uint64_t id = 1; id < next; ++id) {
    EXPECT_EQ(encoded[id], (40 - 4 * static_cast<std::int64_t>(id)) * 20) << id;
  }
}

// Those that decode take rows from a prefill, and none of the work that it may bring to their step.
TEST(PlannerShare, ManyWithLongContextsLeaveAPrefillItsChunk) {
  SchedulerLimits bounds = limits(1);
  bounds.pages_per_member = 300000;
  bounds.sequences_max = 64;
  bounds.chunk_tokens_max = 128;
  bounds.full_chunk_context = 2048;
  ASSERT_GT(60 * 20000, 128 * (bounds.work.row + bounds.full_chunk_context)) << "the work of the decoding rows";
  Planner planner({}, bounds);
  for (std::uint64_t id = 1; id <= 60; ++id) {
    planner.submit({RequestId{id}, 20000, 1000000, {}});
  }
  StepPlan plan = planner.plan();
  const auto decode = [](const StepPlan& step) {
    return std::ranges::count_if(step.chunks, [](const Chunk& chunk) { return !chunk.drawn_tokens.empty(); });
  };
  for (int steps = 0; decode(plan) < 60; ++steps) {
    ASSERT_LT(steps, 60 * 20000 / 16);
    planner.commit(draws(plan));
    plan = planner.plan();
  }
  planner.commit(draws(plan));
  planner.submit({RequestId{100}, 3000, 1, {}});
  plan = planner.plan();
  ASSERT_EQ(plan.chunks.size(), 61U);
  EXPECT_EQ(plan.chunks.back().tokens, 128 - 60);
}

SchedulerLimits talks(std::int32_t sequences) {
  SchedulerLimits bounds = prefills(10000);
  bounds.sequences_max = sequences;
  bounds.chunk_tokens_max = 1024;
  return bounds;
}

Request talk(std::uint64_t id, std::int64_t shared, std::int64_t own, std::int64_t answer) {
  Request request = prompt(id, shared + own, answer);
  for (std::int64_t token = 0; token < shared + own; ++token) {
    request.tokens.push_back(
        static_cast<std::int32_t>(token < shared ? token : 1000000 * static_cast<std::int64_t>(id) + token));
  }
  return request;
}

// Where what follows the common beginning is longer than it, the lines are spread as if it were not there.
TEST(PlannerShare, WhatFollowsMoreIsSpreadEvenly) {
  SchedulerLimits bounds = talks(64);
  bounds.span_members = 1;
  Planner planner({.ring = 4, .tp = 1}, bounds);
  std::map<int, int> on;
  const auto step = [&] {
    const StepPlan plan = planner.plan();
    for (const SequenceStart& start : plan.starts) {
      ++on[start.span.first_member];
    }
    planner.commit(draws(plan));
    return plan;
  };
  planner.submit(talk(1, 600, 700, 1000));
  while (std::ranges::none_of(step().chunks, [](const Chunk& chunk) { return !chunk.sampled.empty(); })) {
  }
  for (std::uint64_t id = 2; id <= 12; ++id) {
    planner.submit(talk(id, 600, 700, 1000));
  }
  for (int steps = 0; steps < 30; ++steps) {
    step();
    EXPECT_EQ(planner.invariants_broken(), "");
  }
  EXPECT_EQ(on, (std::map<int, int>{{0, 3}, {1, 3}, {2, 3}, {3, 3}}));
}

// The first line of a batch may come alone and be spread over several members. Those that follow share its beginning
// and have more of their own: they keep the members busy without any traffic.
TEST(PlannerShare, AWideBeginningDoesNotSpreadWhatFollowsMore) {
  SchedulerLimits bounds = talks(64);
  bounds.span_pages = 4;
  Planner planner({.ring = 4, .tp = 1}, bounds);
  planner.submit(talk(1, 600, 30000, 100));
  StepPlan plan = planner.plan();
  ASSERT_EQ(plan.starts.size(), 1U);
  ASSERT_GT(plan.starts.front().span.members, 1);
  for (std::uint64_t id = 2; id <= 9; ++id) {
    planner.submit(talk(id, 600, 30000, 100));
  }
  std::map<int, int> on;
  int started = 0;
  for (int steps = 0; steps < 400 && started < 8; ++steps) {
    planner.commit(draws(plan));
    plan = planner.plan();
    for (const SequenceStart& start : plan.starts) {
      EXPECT_EQ(start.span.members, 1);
      ++on[start.span.first_member];
      ++started;
    }
    EXPECT_EQ(planner.invariants_broken(), "");
  }
  EXPECT_EQ(on, (std::map<int, int>{{0, 2}, {1, 2}, {2, 2}, {3, 2}}));
}

// A system message that all lines of a batch begin with is computed again where its member has no room for all of them,
// or many more than the others, a picture in it too; a film is waited for.
TEST(PlannerShare, AShortPrefixDoesNotGatherABatchOnOneMember) {
  for (const std::int32_t sequences : {4, 64}) {
    for (const auto& [shared, media] :
         {std::pair(600, 0), std::pair(600, 1), std::pair(20000, 0), std::pair(600, -1)}) {
      SchedulerLimits bounds = talks(sequences);
      bounds.span_members = 1;
      Planner planner({.ring = 4, .tp = 1}, bounds);
      std::map<int, int> on;
      const auto talk_of = [&, shared = shared, media = media](std::uint64_t id) {
        Request request = talk(id, shared, 50, 1000);
        if (media != 0) {
          request.units.push_back({20, 100, true, {}, media < 0});
        }
        return request;
      };
      planner.submit(talk_of(1));
      for (bool computed = false; !computed;) {
        const StepPlan plan = planner.plan();
        for (const SequenceStart& start : plan.starts) {
          ++on[start.span.first_member];
        }
        for (const Chunk& chunk : plan.chunks) {
          computed = computed || !chunk.sampled.empty();
        }
        planner.commit(draws(plan));
      }
      for (std::uint64_t id = 2; id <= 40; ++id) {
        planner.submit(talk_of(id));
      }
      std::int64_t cached = 0;
      for (int steps = 0; steps < 8; ++steps) {
        const StepPlan plan = planner.plan();
        for (const SequenceStart& start : plan.starts) {
          ++on[start.span.first_member];
          cached += start.cached_tokens > 0 ? 1 : 0;
        }
        planner.commit(draws(plan));
        EXPECT_EQ(planner.invariants_broken(), "");
      }
      int most = 0, least = 40;
      for (int member = 0; member < 4; ++member) {
        most = std::max(most, on[member]);
        least = std::min(least, on[member]);
      }
      if (shared == 600 && media >= 0) {
        EXPECT_GE(least, sequences == 4 ? 4 : 6) << sequences;
        EXPECT_LE(most, least + 10) << sequences;
        EXPECT_GT(cached, sequences == 4 ? 8 : 30) << "computed once on each member";
      } else {
        EXPECT_EQ(least, 0);
        EXPECT_EQ(most, std::min(40, sequences));
      }
    }
  }
}

}  // namespace
}  // namespace zoetrope
