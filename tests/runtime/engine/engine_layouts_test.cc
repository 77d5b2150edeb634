// The engine on the bundled checkpoint with real films: one answer in every layout, chunk and company.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "monitoring/error.h"
#include "tests/runtime/engine/engine_answers.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

TEST(Engine, OneAnswerInEveryLayout) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    for (const Layout layout : {Layout{2, 1}, Layout{1, 2}, Layout{2, 2}, Layout{4, 1}, Layout{1, 4}, Layout{8, 1}}) {
      expect_equal(alone, over(layout, settings(1024, 1, precision), film_questions()), described(layout));
    }
  }
}

// Experts by a file with replicas, by counted load, and in order: the same bits. The load that a run counts is that of
// every other layout.
TEST(Engine, OneAnswerInEveryPlacementOfExperts) {
  const fs::path file = scratch("placement"), load = scratch("load"), again = scratch("again");
  std::ofstream(file)
      << R"({"all_layers": {"0": [0, 1], "1": 3, "2": 3, "3": [1, 2, 3], "4": 3, "5": 2, "6": 3, "7": [0, 3]}})";
  EngineSettings how = settings();
  how.experts.load_out = load;
  const Answers alone = over({}, how, film_questions());
  how.experts = {.placement = file, .load = {}, .groups = 0, .extra = 1, .load_out = again};
  for (const Layout layout : {Layout{4, 1}, Layout{2, 2}, Layout{2, 2, 2}}) {  // four ranks a stage
    expect_equal(alone, over(layout, how, film_questions()), described(layout) + " placed by a file");
    EXPECT_EQ(text_of(load), text_of(again));
  }
  for (const int extra : {0, 2}) {
    how.experts = {.placement = "auto", .load = load, .groups = 0, .extra = extra, .load_out = {}};
    expect_equal(alone, over({3, 1}, how, film_questions()), "balanced");
  }
  how.experts.placement = file;  // names rank 3
  EXPECT_THROW(over({2, 1}, how, {}), Error);
  for (const fs::path& made : {file, load, again}) {
    fs::remove(made);
  }
}

// Experts cut over two ranks: their partials meet at home as slices do.
TEST(Engine, OneAnswerWithExpertsCutInTwo) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    for (const Layout layout :
         {Layout{2, 1}, Layout{4, 1}, Layout{2, 2}, Layout{3, 2}, Layout{2, 1, 2}, Layout{1, 2, 3}}) {
      EngineSettings how = settings(257, 1, precision);
      how.experts.groups = layout.stage_ranks() / 2;
      expect_equal(alone, over(layout, how, film_questions()), described(layout) + " cut in two");
    }
  }
  EngineSettings wrong = settings();
  wrong.experts.groups = 2;
  EXPECT_THROW(over({3, 1}, wrong, {}), Error);
}

// Every sequence spread over members, whichever way the queries and pages meet.
TEST(Engine, OneAnswerInEverySpan) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    for (const Layout layout : {Layout{2, 1}, Layout{4, 1}, Layout{2, 2}, Layout{8, 1}}) {
      for (const RingPass pass : {RingPass::kQueries, RingPass::kPages, RingPass::kFewestBytes}) {
        if (layout.ring > 4 && (pass != RingPass::kQueries || precision == Precision::kFp32)) {
          continue;
        }
        EngineSettings how = settings(pass == RingPass::kPages ? 100 : 257, 1, precision);
        how.span_members = layout.ring;
        how.ring_pass = pass;
        how.ring_transport = (pass == RingPass::kPages) == (precision == Precision::kBf16) ? RingTransport::kMessages
                                                                                           : RingTransport::kShared;
        expect_equal(alone, over(layout, how, film_questions()),
                     described(layout) + " spanned, pass " + std::to_string(static_cast<int>(pass)) +
                         (precision == Precision::kBf16 ? " bf16" : " fp32"));
      }
    }
  }
  EngineSettings some = settings();
  some.span_members = 2;
  expect_equal(over({}, settings(), film_questions()), over({.ring = 3, .tp = 1}, some, film_questions()),
               "spans of 2 in a ring of 3");
}

// Members of one host see each other's pages, those of others get messages: in one ring, and in one span.
TEST(Engine, OneAnswerOverSeveralHosts) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    EngineSettings how = settings(257, 1, precision);
    for (const int members : {0, 2, 4}) {
      how.span_members = members;
      for (const std::vector<std::string>& hosts :
           {std::vector<std::string>{"a", "a", "b", "b"}, {"a", "b", "b", "c"}, {"a", "b", "a", "b"}}) {
        const Answers spread = over({4, 1}, how, film_questions(), hosts);
        expect_equal(alone, spread,
                     "spans of " + std::to_string(members) + " on hosts " + hosts[0] + hosts[1] + hosts[2] + hosts[3]);
        for (const auto& [name, told] : spread) {
          EXPECT_TRUE(members == 0 || told.members == members) << name << ' ' << told.members;
        }
      }
    }
    how.span_members = 2;
    expect_equal(alone, over({2, 2}, how, film_questions(), {"a", "a", "b", "b"}), "a host for each tp group");
    expect_equal(alone, over({2, 1, 2}, how, film_questions(), {"a", "b", "a", "b"}), "hosts across stages");
  }
  EngineSettings shared = settings();
  shared.ring_transport = RingTransport::kShared;
  EXPECT_NO_THROW(over({2, 1}, shared, {}, {"a", "a"}));
  EXPECT_THROW(over({2, 1}, shared, {}, {"a", "b"}), Error) << "the names count";
}

// Layers cut in stages, waves of many sizes between them, with ring, tp and spans inside the stages.
TEST(Engine, OneAnswerInEveryPipeline) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    for (const Layout layout : {Layout{1, 1, 2}, Layout{1, 1, 3}, Layout{1, 1, 4}, Layout{1, 1, 6}, Layout{2, 1, 2},
                                Layout{1, 2, 2}, Layout{2, 2, 2}, Layout{4, 1, 2}}) {
      if (precision == Precision::kFp32 && layout.ranks() > 4) {
        continue;
      }
      const std::int64_t chunk = layout.ring > 1 ? 1024 : 40;
      expect_equal(alone, over(layout, settings(chunk, 1, precision), film_questions()),
                   described(layout) + ", chunks of " + std::to_string(chunk));
    }
    for (const Layout layout : {Layout{2, 1, 2}, Layout{2, 2, 2}}) {
      EngineSettings how = settings(100, 1, precision);
      how.span_members = 2;
      how.waves_max = 5;
      expect_equal(alone, over(layout, how, film_questions()), described(layout) + " spanned");
    }
  }
}

TEST(Engine, OneAnswerInEveryChunkThreadsAndCompany) {
  const Answers whole = over({}, settings(), film_questions());
  for (const std::int64_t chunk : {16, 255, 256, 257}) {
    expect_equal(whole, over({}, settings(chunk), film_questions()), "chunk " + std::to_string(chunk));
  }
  expect_equal(whole, over({}, settings(1024, 3), film_questions()), "3 threads");
  for (const auto& [name, body] : film_questions()) {
    const Answers single = over({}, settings(100), {{name, body}});
    EXPECT_EQ(single.at(name).tokens, whole.at(name).tokens) << name << " alone";
    EXPECT_EQ(single.at(name).logprobs, whole.at(name).logprobs) << name << " alone";
  }
}

// Films by stretches of any length, decoded ahead or when they are needed, by one or several decoders a rank: one
// answer.
TEST(Engine, OneAnswerInEveryStretch) {
  const Answers whole = over({}, settings(), film_questions());
  for (const Layout layout : {Layout{1, 1}, Layout{2, 2}}) {
    for (const std::int64_t stretch : {1, 37}) {
      for (const bool look_ahead : {true, false}) {
        EngineSettings how = settings(stretch == 37 ? 100 : 1024, layout.ring == 1 ? 3 : 1);
        how.stretch_tokens = stretch;
        how.look_ahead = look_ahead;
        expect_equal(whole, over(layout, how, film_questions()),
                     described(layout) + " stretches of " + std::to_string(stretch) + (look_ahead ? " ahead" : ""));
      }
    }
  }
  EngineSettings spanned = settings(257);
  spanned.stretch_tokens = 50;
  spanned.span_members = 4;
  expect_equal(whole, over({4, 1}, spanned, film_questions()), "spanned");
}

}  // namespace
}  // namespace zoetrope::test
