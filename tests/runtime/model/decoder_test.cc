#include "runtime/model/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <vector>

#include "runtime/model/text_shard.h"
#include "tests/golden/case_check.h"
#include "tests/runtime/model/tiny_models.h"

namespace zoetrope::test {
namespace {

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    text += "\n  " + line;
  }
  return text;
}

TEST(Decoder, EqualsTheReferenceInFp32AndIsAsCloseAsItsBf16) {
  for (const char* checkpoint : {"tiny-dense", "tiny-moe", "tiny-moe-fp8", "tiny-moe-yarn"}) {
    for (const char* name : {"text_only", "video_odd_frames"}) {
      for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
        const CaseResult result = check_case(golden_folder(), checkpoint, name, precision, {});
        EXPECT_TRUE(result.failures.empty()) << checkpoint << "/" << name << joined(result.failures);
        EXPECT_GT(result.values_compared, 100'000) << checkpoint << "/" << name;
      }
    }
  }
}

constexpr std::int64_t kLengths[] = {300, 1, 37, 4, 64};
constexpr std::int64_t kMore = 3;  // tokens decoded after the prompts, all sequences in one step

// Logits of every row of every sequence: prompts first, then `kMore` single tokens.
using Logits = std::vector<std::vector<float>>;

// Sequence i lives on member i mod ring; what a member has is stepped together, prompts whole.
Logits run_layout(const Checkpoint& checkpoint, Layout layout, Precision precision, int threads,
                  bool shared_memory = true, const ExpertPlacement& experts = {}) {
  Logits logits(std::size(kLengths));
  run_ranks(layout, [&](Ranks& ranks) {
    ThreadPool pool(threads);
    Model::Options options;
    options.compute = compute_on(pool, precision);
    options.experts = experts;
    // Neighbours in a pipeline hand over in memory or, where a wave would not fit, as messages.
    options.shared_rows_max =
        shared_memory ? std::accumulate(std::begin(kLengths), std::end(kLengths), std::int64_t{0}) : 0;
    const auto model = Model::load(checkpoint, ranks, options);
    Stepper stepper(*model, 12);
    std::vector<TestSequence> sequences;
    std::vector<std::size_t> own;
    for (std::size_t i = 0; i < std::size(kLengths); ++i) {
      sequences.push_back(random_prompt(checkpoint.config(), kLengths[i] + kMore, static_cast<unsigned>(i)));
      if (static_cast<int>(i) % layout.ring == ranks.place.member) {
        own.push_back(i);
      }
    }
    for (std::int64_t step = 0; step <= kMore; ++step) {
      std::vector<Stepper::Part> parts;
      for (const std::size_t i : own) {
        parts.push_back({.sequence = &sequences[i], .tokens = step == 0 ? kLengths[i] : 1});
      }
      const std::vector<float> rows = stepper.step(parts);
      if (ranks.place.tp_index == layout.tp - 1 && ranks.last_stage()) {
        auto next = rows.begin();
        for (std::size_t p = 0; p < parts.size(); ++p) {
          const auto count = parts[p].tokens * checkpoint.config().text.vocabulary;
          logits[own[p]].insert(logits[own[p]].end(), next, next + count);
          next += count;
        }
      }
    }
  });
  return logits;
}

void expect_same_bits(const Logits& ours, const Logits& expected, const std::string& what) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(ours[i].size(), expected[i].size()) << what << ", sequence " << i;
    EXPECT_EQ(std::memcmp(ours[i].data(), expected[i].data(), expected[i].size() * sizeof(float)), 0)
        << what << ", sequence " << i;
  }
}

class OneAnswer : public testing::TestWithParam<const char*> {};

// docs/one-answer.md: the layout, the company in a batch, the number of threads and empty members change no bit.
TEST_P(OneAnswer, EveryLayoutGivesTheSameBits) {
  const Checkpoint checkpoint = open_tiny(GetParam());
  const int ranks_max = checkpoint.config().text.moe() ? std::min(8, checkpoint.config().text.experts) : 16;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const Logits alone = run_layout(checkpoint, {}, precision, 1);
    for (const auto& sequence : alone) {
      EXPECT_TRUE(std::ranges::all_of(sequence, [](float v) { return std::isfinite(v); }));
    }
    expect_same_bits(run_layout(checkpoint, {}, precision, 2), alone, "two threads");
    for (const int tp : {1, 2, 4}) {
      for (const int ring : {1, 2, 4, 8}) {
        const Layout layout{.ring = ring, .tp = tp};
        if (layout.ranks() > 1 && layout.ranks() <= ranks_max) {
          expect_same_bits(run_layout(checkpoint, layout, precision, 1), alone, described(layout));
        }
      }
    }
  }
}

// Layers cut in stages: every number of stages alone, and with ring and tp inside the stages.
TEST_P(OneAnswer, EveryPipelineGivesTheSameBits) {
  const Checkpoint checkpoint = open_tiny(GetParam());
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const Logits alone = run_layout(checkpoint, {}, precision, 1);
    for (int pp = 2; pp <= checkpoint.config().text.layers; ++pp) {
      const Layout layout{.pp = pp};
      expect_same_bits(run_layout(checkpoint, layout, precision, 1, pp % 2 == 0), alone, described(layout));
    }
    for (const Layout layout : {Layout{2, 1, 2}, Layout{1, 2, 2}, Layout{2, 2, 2}, Layout{1, 4, 3}, Layout{4, 1, 3}}) {
      expect_same_bits(run_layout(checkpoint, layout, precision, 1), alone, described(layout));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, OneAnswer, testing::Values("tiny-dense", "tiny-moe", "tiny-moe-fp8"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// Experts cut over two ranks, whose partials meet at home.
TEST(Decoder, ExpertsCutInTwoGiveTheSameBits) {
  for (const char* name : {"tiny-moe", "tiny-moe-yarn"}) {
    const Checkpoint checkpoint = open_tiny(name);
    const ModelConfig& config = checkpoint.config();
    const int slices = text_shard(config, 0, 1).expert_slices;
    EXPECT_EQ(slices, 2) << name;
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const Logits alone = run_layout(checkpoint, {}, precision, 1);
      for (const Layout layout : {Layout{.ring = 2, .tp = 1}, Layout{.ring = 2, .tp = 2}, Layout{.ring = 6, .tp = 1},
                                  Layout{.ring = 2, .tp = 1, .pp = 2}, Layout{.ring = 1, .tp = 2, .pp = 3}}) {
        const auto halves =
            grouped_experts_placement(config.text.experts, layout.stage_ranks(), layout.stage_ranks() / 2, slices);
        expect_same_bits(run_layout(checkpoint, layout, precision, 1, true, halves), alone,
                         described(layout) + " cut in two");
      }
    }
  }
}

TEST(Decoder, ChunksAndNeighboursOfAPrefillChangeNoBit) {
  const Checkpoint checkpoint = open_tiny("tiny-moe");
  Ranks ranks = self_ranks();
  ThreadPool pool(1);
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const auto model = load_tiny(checkpoint, ranks, pool, precision);
    const TestSequence prompt = random_prompt(checkpoint.config(), 600, 7);
    Stepper whole(*model, 4);
    TestSequence first = prompt;
    const std::vector<float> expected = whole.step(first, 600);
    for (const std::int64_t chunk : {1, 16, 255, 256, 257}) {
      if (chunk == 1 && precision == Precision::kBf16) {
        continue;  // 600 steps: once is enough
      }
      Stepper stepper(*model, 40);
      TestSequence again = prompt;
      TestSequence other = random_prompt(checkpoint.config(), 600, 8);
      std::vector<float> logits;
      for (std::int64_t at = 0; at < 600; at += chunk) {
        const std::int64_t count = std::min(chunk, 600 - at);
        std::vector<Stepper::Part> parts{{.sequence = &again, .tokens = count}};
        if (at / chunk % 2 == 1 && other.done < 590) {
          parts.insert(parts.begin(), {.sequence = &other, .tokens = 5});  // a neighbour comes and goes
        }
        const std::vector<float> rows = stepper.step(parts);
        logits.insert(logits.end(), rows.end() - count * checkpoint.config().text.vocabulary, rows.end());
      }
      ASSERT_EQ(logits.size(), expected.size());
      EXPECT_EQ(std::memcmp(logits.data(), expected.data(), expected.size() * sizeof(float)), 0) << "chunk " << chunk;
    }
  }
}

TEST(Decoder, DeepstackFeaturesReachTheirLayersAndOnlyVisualRows) {
  const Checkpoint checkpoint = open_tiny("tiny-dense");
  Ranks ranks = self_ranks();
  ThreadPool pool(1);
  std::map<std::string, std::vector<float>> seen;
  const auto model =
      load_tiny(checkpoint, ranks, pool, Precision::kFp32, [&](std::string_view name, Rows<const float> values) {
        seen[std::string(name)].assign(values.data, values.data + values.rows * values.columns);
      });
  const std::int64_t hidden = checkpoint.config().text.hidden;
  TestSequence plain = random_prompt(checkpoint.config(), 6, 1);  // token 2 shows something
  ASSERT_EQ(plain.visual_tokens, (std::vector<std::int64_t>{2}));
  TestSequence changed = plain;
  for (std::int64_t c = 0; c < hidden; ++c) {
    changed.visual[static_cast<std::size_t>(2 * hidden + c)] += 1.0F;  // feature 1: behind layer 1
  }
  Stepper stepper(*model, 4);
  stepper.step(plain, 6);
  const auto before = seen;
  stepper.step(changed, 6);
  EXPECT_EQ(seen["hidden.embed"], before.at("hidden.embed"));
  EXPECT_EQ(seen["hidden.layer.0"], before.at("hidden.layer.0"));
  for (std::int64_t row = 0; row < 6; ++row) {
    for (std::int64_t c = 0; c < hidden; ++c) {
      const auto at = static_cast<std::size_t>(row * hidden + c);
      EXPECT_NEAR(seen["hidden.layer.1"][at] - before.at("hidden.layer.1")[at], row == 2 ? 1.0F : 0.0F, 1e-5F);
    }
  }
}

TEST(Decoder, AStepWithoutRowsOrWantedLogitsIsAStep) {
  const Checkpoint checkpoint = open_tiny("tiny-moe");
  Ranks ranks = self_ranks();
  ThreadPool pool(1);
  const auto model = load_tiny(checkpoint, ranks, pool, Precision::kBf16);
  KvCache cache(model->kv_layout(), model->layers(), 1);
  model->forward({}, cache, {});
  StepInputs inputs;
  inputs.tokens = {5};
  inputs.positions = {{}};
  inputs.indices = {0};
  inputs.slots = {{.page_id = 0, .row = 0}};
  inputs.sequences.push_back(
      {.first_row = 0, .rows = 1, .pages = {{.page_id = 0, .first_position = 0, .page_class = 0, .valid_rows = 1}}});
  cache.open_page(0);
  model->forward(inputs, cache, {});
}

}  // namespace
}  // namespace zoetrope::test
