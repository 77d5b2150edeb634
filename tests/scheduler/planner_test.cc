#include "scheduler/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>

#include "tests/scheduler/draws.h"

namespace zoetrope {
namespace {

Request request(std::uint64_t id, std::int64_t prompt, std::int64_t answer, std::vector<UnitSpan> units = {}) {
  return {RequestId{id}, prompt, answer, std::move(units)};
}

SchedulerLimits limits(std::int32_t pages = 100, std::int64_t chunk = 64) {
  return {.context_tokens_max = 100000,
          .pages_per_member = pages,
          .chunk_tokens_max = chunk,
          .sequences_max = 8,
          .span_pages = 16};
}

TEST(Planner, PrefillsInChunksThenDecodes) {
  Planner planner({}, limits());
  planner.submit(request(1, 100, 2));
  StepPlan plan = planner.plan();
  ASSERT_EQ(plan.starts.size(), 1U);
  ASSERT_EQ(plan.chunks.size(), 1U);
  EXPECT_EQ(plan.chunks[0].tokens, 64);
  EXPECT_EQ(plan.chunks[0].new_pages.size(), 1U);
  EXPECT_TRUE(plan.chunks[0].sampled.empty());
  EXPECT_TRUE(planner.commit({}).empty());
  plan = planner.plan();
  EXPECT_EQ(plan.chunks[0].first_token, 64);
  EXPECT_EQ(plan.chunks[0].tokens, 36);
  EXPECT_EQ(plan.chunks[0].sampled, std::vector<std::int64_t>{99});
  EXPECT_TRUE(planner.commit(draws(plan, 77)).empty());
  plan = planner.plan();
  EXPECT_EQ(plan.chunks[0].first_token, 100);
  EXPECT_EQ(plan.chunks[0].drawn_tokens, std::vector<std::int32_t>{77});
  const auto finished = planner.commit(draws(plan));
  ASSERT_EQ(finished.size(), 1U);
  EXPECT_EQ(finished[0].reason, FinishReason::kLength);
  EXPECT_FALSE(planner.idle());
  plan = planner.plan();
  EXPECT_EQ(plan.releases, std::vector<RequestId>{RequestId{1}});
  planner.commit({});
  EXPECT_TRUE(planner.idle());
}

// With stages a step has several waves; the sequence goes on where the last wave ended, and the last one draws.
TEST(Planner, AStepForStagesHasWaves) {
  SchedulerLimits bounds = limits();
  bounds.waves_max = 4;
  bounds.wave_cost = {.fixed = 1, .context = 0.01};
  Planner planner({.pp = 2}, bounds);
  planner.submit(request(1, 500, 3));
  std::int64_t computed = 0;
  std::size_t pages = 0;
  int steps = 0;
  while (computed < 500) {
    const StepPlan plan = planner.plan();
    ++steps;
    ASSERT_GT(plan.chunks.size(), 1U);
    ASSERT_LE(plan.chunks.size(), 4U);
    for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
      EXPECT_EQ(plan.chunks[i].wave, static_cast<int>(i));
      EXPECT_EQ(plan.chunks[i].first_token, computed);
      EXPECT_LE(plan.chunks[i].tokens, 64);
      computed += plan.chunks[i].tokens;
      pages += plan.chunks[i].new_pages.size();
      EXPECT_EQ(static_cast<std::int64_t>(pages), (computed + 255) / 256);
      EXPECT_EQ(plan.chunks[i].sampled, computed == 500 ? std::vector<std::int64_t>{499} : std::vector<std::int64_t>{});
    }
    EXPECT_EQ(planner.invariants_broken(), "");
    planner.commit(draws(plan));
  }
  EXPECT_EQ(computed, 500);
  EXPECT_GT(steps, 2);
  const StepPlan decode = planner.plan();
  ASSERT_EQ(decode.chunks.size(), 1U);
  EXPECT_EQ(decode.chunks[0].drawn_tokens, std::vector<std::int32_t>{5});
  EXPECT_EQ(decode.chunks[0].wave, 0);
}

TEST(Planner, EndOfSequenceStopsAtOnce) {
  Planner planner({}, limits());
  planner.submit(request(1, 3, 50));
  planner.plan();
  const auto finished = planner.commit({{RequestId{1}, {2}, true}});
  ASSERT_EQ(finished.size(), 1U);
  EXPECT_EQ(finished[0].reason, FinishReason::kStop);
}

TEST(Planner, RefusesWhatCanNeverRunWithTheNumbers) {
  Planner planner({}, limits(4));
  EXPECT_FALSE(planner.refusal(request(1, 1000, 24)).has_value());
  const auto pages = planner.refusal(request(1, 1000, 25));
  ASSERT_TRUE(pages.has_value());
  EXPECT_NE(pages->find("1000 prompt tokens + 25 new tokens = 5 pages"), std::string::npos) << *pages;
  const auto far = planner.refusal(request(1, 10, std::numeric_limits<std::int64_t>::max()));
  ASSERT_TRUE(far.has_value());
  EXPECT_NE(far->find("10 prompt tokens + 9223372036854775807 new tokens = 9223372036854775817"), std::string::npos)
      << *far;
  const auto context = planner.refusal(request(1, 100000, 1));
  ASSERT_TRUE(context.has_value());
  EXPECT_NE(context->find("100000 prompt tokens + 1 new tokens = 100001"), std::string::npos) << *context;
}

TEST(Planner, NobodyOvertakesALargeRequest) {
  Planner planner({}, limits(10));
  planner.submit(request(1, 256 * 6, 1));
  planner.plan();
  planner.commit({});
  planner.submit(request(2, 256 * 5, 1));
  planner.submit(request(3, 10, 1));
  const StepPlan plan = planner.plan();
  EXPECT_TRUE(plan.starts.empty());
  EXPECT_EQ(planner.waiting(), 2U);
}

TEST(Planner, DealsSequencesOverTheRing) {
  Planner planner({.ring = 4, .tp = 1}, limits());
  for (std::uint64_t id = 0; id < 8; ++id) {
    planner.submit(request(id, 10, 4));
  }
  const StepPlan plan = planner.plan();
  std::map<int, int> per_member;
  for (const SequenceStart& start : plan.starts) {
    ++per_member[start.span.first_member];
  }
  EXPECT_EQ(per_member, (std::map<int, int>{{0, 2}, {1, 2}, {2, 2}, {3, 2}}));
}

TEST(Planner, SpreadsALongSequenceAloneAndDealsItsRowsAndPages) {
  SchedulerLimits bounds = limits(100, 64);
  bounds.span_pages = 4;
  Planner planner({.ring = 6, .tp = 1}, bounds);
  planner.submit(request(1, 256 * 8, 10));
  StepPlan plan = planner.plan();
  ASSERT_EQ(plan.starts.size(), 1U);
  EXPECT_EQ(plan.starts[0].span, (Span{.members = 2, .first_member = 0, .ring = 6}));
  EXPECT_EQ(plan.chunks[0].tokens, 128) << "64 rows for each of two members";
  planner.commit({});
  planner.submit(request(2, 256 * 8, 10));
  plan = planner.plan();
  ASSERT_EQ(plan.starts.size(), 1U);
  EXPECT_EQ(plan.starts[0].span, (Span{.members = 1, .first_member = 2, .ring = 6}))
      << "two at once are dealt, not spread";
  EXPECT_EQ(planner.invariants_broken(), "");
}

// What members of a span send each other is weighed against what they save: with messages that cost as much as
// attending to two million tokens, as between hosts, a prompt must be long to be spread.
TEST(Planner, SpreadsWhereThatTakesWorkOffMembers) {
  const auto members = [](std::int64_t exchange, std::int64_t prompt, std::int64_t answer) {
    SchedulerLimits bounds = limits(10000, 1024);
    bounds.context_tokens_max = 2000000;
    bounds.span_pages = 2;
    bounds.work = {.row = 4096, .page_visit = 1000, .row_visit = 1000, .exchange = exchange};
    Planner planner({.ring = 4, .tp = 1}, bounds);
    planner.submit(request(1, prompt, answer));
    return planner.plan().starts.at(0).span.members;
  };
  EXPECT_EQ(members(100, 256 * 3, 10), 1) << "a member would have a page or two";
  EXPECT_EQ(members(100, 256 * 4, 10), 2);
  EXPECT_EQ(members(100, 256 * 8, 10), 4);
  EXPECT_EQ(members(2000000, 256 * 8, 10), 1);
  EXPECT_EQ(members(2000000, 256 * 128, 1000), 1);
  EXPECT_EQ(members(2000000, 256 * 1024, 1000), 4);
  EXPECT_EQ(members(200000, 256 * 128, 1), 4) << "an answer of a token";
  EXPECT_EQ(members(200000, 256 * 128, 1000), 1) << "one that may be longer";
  EXPECT_EQ(members(80000, 256 * 128, 1000), 4) << "and where messages are quicker";
}

// Members 0, 1, 2 share a host and 3 is on another one: over the network a message costs as much as attending to two
// million tokens, within a host as much as a hundred.
TEST(Planner, SpreadsWithinAHostWhereTheNetworkIsSlow) {
  SchedulerLimits bounds = limits(10000, 1024);
  bounds.context_tokens_max = 2000000;
  bounds.span_pages = 2;
  bounds.work = {.row = 4096, .page_visit = 1000, .row_visit = 1000, .exchange = 2000000};
  bounds.host_work = {.row = 4096, .shared = true, .row_visit = 10, .exchange = 100};
  bounds.hosts = {0, 0, 0, 7};
  {
    Planner planner({.ring = 4, .tp = 1}, bounds);
    planner.submit(request(1, 256 * 128, 1000));
    const Span span = planner.plan().starts.at(0).span;
    EXPECT_EQ(span.members, 2) << "four would cross the network";
    EXPECT_LE(span.first_member, 1);
  }
  {
    Planner planner({.ring = 4, .tp = 1}, bounds);
    planner.submit(request(1, 256 * 1024, 1000));
    EXPECT_EQ(planner.plan().starts.at(0).span.members, 4) << "so long that the network pays";
  }
  {
    bounds.hosts = {7, 8, 0, 0};
    Planner planner({.ring = 4, .tp = 1}, bounds);
    planner.submit(request(1, 256 * 128, 1000));
    EXPECT_EQ(planner.plan().starts.at(0).span, (Span{.members = 2, .first_member = 2, .ring = 4}));
  }
  {
    // As many members wherever it begins: those that share a host.
    SchedulerLimits given = bounds;
    given.hosts = {7, 0, 0, 8};
    given.span_members = 2;
    Planner planner({.ring = 4, .tp = 1}, given);
    planner.submit(request(1, 256 * 128, 1000));
    EXPECT_EQ(planner.plan().starts.at(0).span, (Span{.members = 2, .first_member = 1, .ring = 4}));
  }
  {
    // The price goes before the room: the second sequence joins the first rather than cross the network.
    SchedulerLimits given = bounds;
    given.hosts = {7, 0, 0, 8};
    given.span_members = 2;
    Planner planner({.ring = 4, .tp = 1}, given);
    planner.submit(request(1, 256 * 128, 1000));
    planner.submit(request(2, 256 * 64, 1000));
    const auto starts = planner.plan().starts;
    ASSERT_EQ(starts.size(), 2U);
    EXPECT_EQ(starts[1].span, (Span{.members = 2, .first_member = 1, .ring = 4}));
    EXPECT_EQ(starts[1].span, starts[0].span);
  }
  {
    // But a network that costs next to nothing more does not: the second sequence goes where there is room.
    SchedulerLimits given = bounds;
    given.hosts = {7, 0, 0, 8};
    given.work = given.host_work;
    given.work.exchange += 1;
    given.span_members = 2;
    Planner planner({.ring = 4, .tp = 1}, given);
    planner.submit(request(1, 256 * 128, 1000));
    planner.submit(request(2, 256 * 64, 1000));
    const auto starts = planner.plan().starts;
    ASSERT_EQ(starts.size(), 2U);
    EXPECT_NE(starts[1].span, starts[0].span);
  }
  {
    // Two members hold the prompt but not the answer, four do: it begins where two pay.
    bounds.hosts = {7, 0, 0, 0};
    bounds.pages_per_member = 40;
    Planner planner({.ring = 4, .tp = 1}, bounds);
    planner.submit(request(1, 256 * 30, 256 * 102));
    const SequenceStart start = planner.plan().starts.at(0);
    EXPECT_EQ(start.span, (Span{.members = 2, .first_member = 1, .ring = 4}));
  }
  bounds.pages_per_member = 10000;
  bounds.hosts = {0, 1, 2, 3};
  Planner planner({.ring = 4, .tp = 1}, bounds);
  planner.submit(request(1, 256 * 128, 1000));
  EXPECT_EQ(planner.plan().starts.at(0).span.members, 1) << "nobody shares a host";
}

// Frames so large that a stretch has fewer than there are ranks: none of the ranks is left out.
TEST(Planner, DealsFewUnitsToRanksInTurn) {
  SchedulerLimits bounds = limits(100, 4096);
  bounds.stretch_tokens = 256;
  std::vector<UnitSpan> units;
  for (std::int64_t i = 0; i < 12; ++i) {
    units.push_back({10 + 910 * i, 900, false});
  }
  Planner planner({.ring = 4, .tp = 1}, bounds);
  planner.submit(request(1, 12 * 910 + 20, 1, units));
  std::vector<std::int32_t> ranks;
  for (int steps = 0; !planner.idle() && steps < 1000; ++steps) {
    const StepPlan plan = planner.plan();
    for (const EncodeUnit& unit : plan.ahead) {
      ranks.push_back(unit.rank);
    }
    std::vector<Drawn> drawn;
    for (const Chunk& chunk : plan.chunks) {
      if (!chunk.sampled.empty()) {
        drawn.push_back({chunk.id, {5}, true});
      }
    }
    planner.commit(drawn);
  }
  EXPECT_EQ(ranks, (std::vector<std::int32_t>{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3}));
}

TEST(Planner, SpreadsWhatOneMemberCannotHold) {
  Planner planner({.ring = 3, .tp = 1}, limits(10));
  planner.submit(request(1, 256, 1));
  planner.submit(request(2, 256 * 19, 10));
  const StepPlan plan = planner.plan();
  ASSERT_EQ(plan.starts.size(), 2U);
  EXPECT_EQ(plan.starts[0].span.members, 1);
  EXPECT_EQ(plan.starts[1].span, (Span{.members = 2, .first_member = 1, .ring = 3}));
  const auto why = planner.refusal(request(3, 256 * 20, 10));
  ASSERT_TRUE(why.has_value());
  EXPECT_NE(why->find("= 21 pages of 256, expected at most 20 pages (what 2 ring members hold, 10 each)"),
            std::string::npos)
      << *why;
}

// Units of `tokens` tokens each, back to back from token 10.
std::vector<UnitSpan> units_of(std::size_t count, std::int64_t tokens) {
  std::vector<UnitSpan> units;
  for (std::size_t i = 0; i < count; ++i) {
    units.push_back({10 + static_cast<std::int64_t>(i) * tokens, tokens, true});
  }
  return units;
}

// Runs one request to its first token; returns every unit named ahead, with its step, in order of `encode`.
struct FilmSteps {
  std::vector<std::int32_t> encoded, ranks;
  std::map<std::int32_t, std::pair<std::uint64_t, std::int32_t>> ahead;  // unit -> step and rank
  std::vector<std::uint64_t> encoded_in;
  std::int64_t waiting_max = 0;  // units that were named and not encoded, after a step
};

FilmSteps film_steps(Planner& planner, const Request& asked) {
  FilmSteps steps;
  planner.submit(asked);
  for (bool drawn = false; !drawn;) {
    const StepPlan plan = planner.plan();
    for (const EncodeUnit& unit : plan.ahead) {
      EXPECT_TRUE(steps.ahead.emplace(unit.unit, std::pair(plan.step, unit.rank)).second)
          << "named twice: " << unit.unit;
    }
    for (const EncodeUnit& unit : plan.encode) {
      steps.encoded.push_back(unit.unit);
      steps.ranks.push_back(unit.rank);
      steps.encoded_in.push_back(plan.step);
      EXPECT_TRUE(steps.ahead.contains(unit.unit) && steps.ahead[unit.unit].second == unit.rank) << unit.unit;
    }
    for (const Chunk& chunk : plan.chunks) {
      for (std::size_t unit = steps.encoded.size(); unit < asked.units.size(); ++unit) {
        EXPECT_GE(asked.units[unit].first_token, chunk.first_token + chunk.tokens)
            << "computed before it was encoded: " << unit;
      }
      drawn = !chunk.sampled.empty();
    }
    steps.waiting_max =
        std::max(steps.waiting_max, static_cast<std::int64_t>(steps.ahead.size() - steps.encoded.size()));
    planner.commit(draws(plan));
    EXPECT_EQ(planner.invariants_broken(), "");
  }
  return steps;
}

TEST(Planner, TheNextStretchIsNamedWithItsRanksWhileThisOneIsComputed) {
  SchedulerLimits bounds = limits(100, 64);
  bounds.stretch_tokens = 50;
  Planner planner({.ring = 2, .tp = 1}, bounds);
  const FilmSteps steps = film_steps(planner, request(1, 10 + 40 * 10 + 5, 4, units_of(40, 10)));
  ASSERT_EQ(steps.encoded.size(), 40U);
  EXPECT_TRUE(std::is_sorted(steps.encoded.begin(), steps.encoded.end()));
  EXPECT_EQ(steps.waiting_max, 20) << "two stretches of 50 tokens for each of two ranks";
  for (std::size_t unit = 0; unit < 40; ++unit) {
    EXPECT_EQ(steps.ranks[unit], unit % 10 < 5 ? 0 : 1) << unit;
    const std::uint64_t named = steps.ahead.at(static_cast<std::int32_t>(unit)).first;
    EXPECT_LT(named, steps.encoded_in[unit]) << unit;
  }
}

TEST(Planner, WithoutLookingAheadStretchesAreNamedWhenTheyAreEncoded) {
  SchedulerLimits bounds = limits(100, 64);
  bounds.stretch_tokens = 50;
  bounds.look_ahead = false;
  Planner planner({.ring = 2, .tp = 1}, bounds);
  const FilmSteps steps = film_steps(planner, request(1, 10 + 40 * 10 + 5, 4, units_of(40, 10)));
  EXPECT_EQ(steps.waiting_max, 0);
  for (std::size_t unit = 0; unit < 40; ++unit) {
    EXPECT_EQ(steps.ahead.at(static_cast<std::int32_t>(unit)).first, steps.encoded_in[unit]) << unit;
  }
}

// How many units of each sequence are named.
std::map<std::uint64_t, int> named_in(const StepPlan& plan) {
  std::map<std::uint64_t, int> named;
  for (const EncodeUnit& unit : plan.ahead) {
    ++named[static_cast<std::uint64_t>(unit.id)];
  }
  return named;
}

// Several films decode ahead no more than two stretches together, and a film that goes gives its part back.
TEST(Planner, FilmsLookAheadNoFurtherThanTwoStretchesTogether) {
  SchedulerLimits bounds = limits(100, 64);
  bounds.stretch_tokens = 50;
  Planner planner({}, bounds);
  for (std::uint64_t id = 1; id <= 4; ++id) {
    planner.submit(request(id, 10 + 4 * 10, 4, units_of(4, 10)));
  }
  const StepPlan first = planner.plan();
  EXPECT_EQ(named_in(first), (std::map<std::uint64_t, int>{{1, 4}, {2, 4}})) << "80 tokens of 100";
  planner.cancel(RequestId{2});
  planner.commit(draws(first), {{RequestId{1}, 0}});
  const StepPlan second = planner.plan();
  EXPECT_EQ(named_in(second), (std::map<std::uint64_t, int>{{3, 4}})) << "in the place of the one that is gone";
  planner.commit(draws(second));
  EXPECT_EQ(planner.plan().encode.size(), 8U) << "64 rows hold the first film and the beginning of the third";
  EXPECT_EQ(planner.invariants_broken(), "");
}

// A film whose frames are not there does not hold up a step: others go on, and it goes as far as its frames.
TEST(Planner, AFilmWhoseFramesAreNotThereHoldsUpNobody) {
  SchedulerLimits bounds = limits(100, 400);
  bounds.stretch_tokens = 100;
  Planner planner({}, bounds);
  planner.submit(request(1, 10 + 40 * 10 + 5, 4, units_of(40, 10)));
  planner.submit(request(2, 20, 12));
  const auto rows = [](const StepPlan& plan) {
    std::map<std::uint64_t, std::int64_t> tokens;
    for (const Chunk& chunk : plan.chunks) {
      tokens[static_cast<std::uint64_t>(chunk.id)] = chunk.tokens;
    }
    return tokens;
  };
  using Rows = std::map<std::uint64_t, std::int64_t>;
  StepPlan plan = planner.plan();
  EXPECT_EQ(named_in(plan), (std::map<std::uint64_t, int>{{1, 20}})) << "two stretches";
  EXPECT_EQ(rows(plan), (Rows{{2, 20}})) << "10 tokens of text before the frames wait with them";
  for (int step = 0; step < 5; ++step) {
    EXPECT_EQ(plan.frames, FramesWanted::kSoon) << step;
    planner.commit(draws(plan), {{RequestId{1}, step}, {RequestId{1}, 12}});  // two ranks decode
    plan = planner.plan();
    EXPECT_EQ(rows(plan), (Rows{{2, 1}})) << step;
    EXPECT_TRUE(plan.encode.empty()) << step;
  }
  planner.commit(draws(plan), {{RequestId{1}, 12}});
  plan = planner.plan();
  EXPECT_EQ(rows(plan), (Rows{{1, 110}, {2, 1}})) << "the first stretch is there";
  EXPECT_EQ(plan.frames, FramesWanted::kInTime);
  EXPECT_EQ(plan.encode.size(), 10U);
  EXPECT_EQ(named_in(plan), (std::map<std::uint64_t, int>{{1, 10}}));
  planner.commit(draws(plan), {{RequestId{1}, 12}});
  while (!(plan = planner.plan()).chunks.empty()) {
    EXPECT_EQ(rows(plan), (Rows{{2, 1}}));
    planner.commit(draws(plan), {{RequestId{1}, 12}});
  }
  EXPECT_EQ(plan.frames, FramesWanted::kNow) << "nothing else is left";
  planner.commit({}, {{RequestId{1}, 12}});
  plan = planner.plan();
  EXPECT_EQ(plan.frames, FramesWanted::kNow);
  EXPECT_TRUE(plan.chunks.empty());
  planner.commit({});
  plan = planner.plan();
  EXPECT_EQ(rows(plan), (Rows{{1, 200}})) << "both stretches that were named";
  EXPECT_EQ(plan.encode.size(), 20U);
  EXPECT_EQ(planner.invariants_broken(), "");
}

// Units larger than two stretches, as of large frames: the next one is decoded while one is computed.
TEST(Planner, AUnitLargerThanStretchesIsDecodedAhead) {
  SchedulerLimits bounds = limits(400, 64);
  bounds.stretch_tokens = 50;
  Planner planner({}, bounds);
  const FilmSteps steps = film_steps(planner, request(1, 10 + 10 * 200 + 5, 4, units_of(10, 200)));
  ASSERT_EQ(steps.encoded.size(), 10U);
  for (std::size_t unit = 1; unit < 10; ++unit) {
    EXPECT_EQ(steps.ahead.at(static_cast<std::int32_t>(unit)).first, steps.encoded_in[unit - 1]) << unit;
  }
}

// Two long films and, behind them, three single pictures: every one goes on while the others do, whatever came first.
TEST(Planner, NoFilmWaitsForTheEndOfAnother) {
  SchedulerLimits bounds = limits(100, 64);
  bounds.stretch_tokens = 50;
  Planner planner({}, bounds);
  std::map<std::uint64_t, std::vector<std::uint64_t>>
      encoded;  // by sequence: the steps in which units of it were encoded
  std::uint64_t last_step = 0;
  for (std::uint64_t id = 1; id <= 2; ++id) {
    planner.submit(request(id, 10 + 40 * 10 + 5, 4, units_of(40, 10)));
  }
  for (int step = 0; step < 200 && !planner.idle(); ++step) {
    if (step == 4) {
      for (std::uint64_t id = 3; id <= 5; ++id) {
        planner.submit(request(id, 10 + 10 + 5, 4, units_of(1, 10)));
      }
    }
    const StepPlan plan = planner.plan();
    for (const EncodeUnit& unit : plan.encode) {
      auto& steps = encoded[static_cast<std::uint64_t>(unit.id)];
      if (steps.empty() || steps.back() != plan.step) {
        steps.push_back(plan.step);
      }
      last_step = plan.step;
    }
    planner.commit(draws(plan));
  }
  EXPECT_TRUE(planner.idle());
  ASSERT_EQ(encoded.size(), 5U);
  for (std::uint64_t id = 3; id <= 5; ++id) {
    ASSERT_EQ(encoded[id].size(), 1U) << id;
    EXPECT_LE(encoded[id].front(), 4U + 8U) << id;
  }
  for (std::uint64_t id = 1; id <= 2; ++id) {
    ASSERT_GE(encoded[id].size(), 4U) << id;
    for (std::size_t i = 1; i < encoded[id].size(); ++i) {
      EXPECT_LE(encoded[id][i] - encoded[id][i - 1], 6U) << "film " << id << " stood still before its part " << i;
    }
  }
  EXPECT_GE(encoded[2].back() + 6U, last_step);
  EXPECT_GE(encoded[1].back() + 6U, last_step) << "the first film did not take all";
}

TEST(Planner, CancelledWhileWaitingAndWhileRunning) {
  Planner planner({}, limits());
  planner.submit(request(1, 100, 10));
  planner.submit(request(2, 100, 10));
  planner.cancel(RequestId{2});
  planner.plan();
  planner.cancel(RequestId{1});
  auto finished = planner.commit({});
  ASSERT_EQ(finished.size(), 1U);
  EXPECT_EQ(finished[0].id, RequestId{2});
  const StepPlan plan = planner.plan();
  EXPECT_TRUE(plan.chunks.empty());
  EXPECT_EQ(plan.releases, std::vector<RequestId>{RequestId{1}});
  finished = planner.commit({});
  ASSERT_EQ(finished.size(), 1U);
  EXPECT_EQ(finished[0].reason, FinishReason::kAborted);
  EXPECT_TRUE(planner.idle());
  EXPECT_EQ(planner.invariants_broken(), "");
}

TEST(Planner, TruncationGivesPagesBackAndGoesOn) {
  Planner planner({}, limits(100, 2000));
  planner.submit(request(1, 500, 1000));
  for (int step = 0; step < 300; ++step) {
    planner.commit(draws(planner.plan(), step));
  }
  planner.truncate(RequestId{1}, 505, 42);
  EXPECT_EQ(planner.invariants_broken(), "");
  const StepPlan plan = planner.plan();
  ASSERT_EQ(plan.truncations.size(), 1U);
  EXPECT_EQ(plan.chunks[0].first_token, 505);
  EXPECT_EQ(plan.chunks[0].drawn_tokens, std::vector<std::int32_t>{42});
}

// Random arrivals, lengths, ends and cancellations: after every step the pages add up, rows stay within the budget,
// every prompt token is computed once and in order, every unit is encoded once and before its tokens, and all finish.
struct Watched {
  Request request;
  std::int64_t computed = 0, generated = 0;
  std::int32_t units = 0, named = 0, decoded = 0;
  Span span{.ring = 0};
};

void watch(const StepPlan& plan, const SchedulerLimits& bounds, int ring, std::map<RequestId, Watched>& live) {
  for (const SequenceStart& start : plan.starts) {
    live.at(start.id).span = start.span;
  }
  for (const Growth& growth : plan.growths) {
    live.at(growth.id).span = growth.span;
  }
  for (const EncodeUnit& unit : plan.encode) {
    EXPECT_EQ(unit.unit, live.at(unit.id).units++);
    EXPECT_LT(unit.unit, live.at(unit.id).decoded) << "encoded before its frames are there";
  }
  for (const EncodeUnit& unit : plan.ahead) {
    EXPECT_EQ(unit.unit, live.at(unit.id).named++);
  }
  std::vector<std::int64_t> rows(static_cast<std::size_t>(ring), 0);
  for (const Chunk& chunk : plan.chunks) {
    Watched& w = live.at(chunk.id);
    ASSERT_EQ(w.span.ring, ring);
    EXPECT_EQ(chunk.first_token, w.computed);
    EXPECT_GE(chunk.tokens, 1);
    for (std::int64_t token = w.computed; token < w.computed + chunk.tokens; ++token) {
      ++rows[static_cast<std::size_t>(w.span.computes(token))];
    }
    w.computed += chunk.tokens;
    for (std::size_t i = 0; i < w.request.units.size(); ++i) {
      if (w.request.units[i].first_token < w.computed) {
        EXPECT_LT(static_cast<std::int32_t>(i), w.units) << "a unit's tokens are computed before it is encoded";
      }
    }
  }
  for (const std::int64_t count : rows) {
    EXPECT_LE(count, bounds.chunk_tokens_max);
  }
}

// Some frames become ready; what is pending then.
std::vector<PendingFrames> decode_some(std::map<RequestId, Watched>& live, std::mt19937& random) {
  std::vector<PendingFrames> pending;
  for (auto& [id, w] : live) {
    w.decoded = std::min(w.named, w.decoded + static_cast<std::int32_t>(random() % 8));
    if (w.decoded < w.named) {
      pending.push_back({id, w.decoded});
    }
  }
  return pending;
}

TEST(Planner, RandomWorkloadsAddUp) {
  for (unsigned seed = 1; seed <= 9; ++seed) {
    std::mt19937 random(seed);
    const int ring = 1 + static_cast<int>(random() % 5);
    SchedulerLimits bounds = limits(20, 16 + random() % 300);
    bounds.span_pages = 1 + static_cast<int>(random() % 8);
    bounds.span_members = ring >= 4 && seed % 3 == 0 ? 4 : 0;
    Planner planner({.ring = ring, .tp = 1}, bounds);
    Planner twin({.ring = ring, .tp = 1}, bounds);
    std::map<RequestId, Watched> live;
    std::uint64_t next_id = 0, finished_count = 0;
    for (int step = 0; step < 2000 || (!planner.idle() && step < 200000); ++step) {
      if (step < 2000 && random() % 4 == 0) {
        Request r = request(++next_id, 1 + random() % 3000, 1 + random() % 40);
        for (std::int64_t at = random() % 50; at + 8 <= r.prompt_tokens && random() % 8 != 0; at += 8 + random() % 90) {
          r.units.push_back({at, 8});
        }
        ASSERT_FALSE(planner.refusal(r).has_value());
        planner.submit(r);
        twin.submit(r);
        live[r.id] = {r};
      }
      if (!live.empty() && random() % 50 == 0) {
        const RequestId id = std::next(live.begin(), random() % live.size())->first;
        planner.cancel(id);
        twin.cancel(id);
      }
      const StepPlan plan = planner.plan();
      EXPECT_EQ(plan, twin.plan()) << "the same calls must give the same plans";
      watch(plan, bounds, ring, live);
      std::vector<Drawn> drawn = draws(plan);
      for (Drawn& d : drawn) {
        d.ended = random() % 30 == 0;
        ++live.at(d.id).generated;
      }
      const std::vector<PendingFrames> pending = decode_some(live, random);
      twin.commit(drawn, pending);
      for (const Finished& f : planner.commit(drawn, pending)) {
        const Watched& w = live.at(f.id);
        if (f.reason == FinishReason::kLength) {
          EXPECT_EQ(w.generated, w.request.new_tokens_max);
        }
        live.erase(f.id);
        ++finished_count;
      }
      ASSERT_EQ(planner.invariants_broken(), "");
    }
    EXPECT_TRUE(planner.idle()) << "seed " << seed;
    EXPECT_EQ(finished_count, next_id);
  }
}

TEST(Planner, ATruncatedSequenceMayEndBeforeTheNextStep) {
  Planner planner({}, limits());
  planner.submit(request(1, 50, 100));
  for (int steps = 0; steps < 5; ++steps) {
    planner.commit(draws(planner.plan()));
  }
  planner.truncate(RequestId{1}, 51, 42);
  planner.cancel(RequestId{1});
  const StepPlan plan = planner.plan();
  EXPECT_EQ(plan.releases, std::vector<RequestId>{RequestId{1}});
  EXPECT_TRUE(plan.truncations.empty()) << "the ranks know it no more";
  planner.commit({});
}

}  // namespace
}  // namespace zoetrope
