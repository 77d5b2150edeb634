#include "runtime/model/stages.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "monitoring/error.h"
#include "tests/golden_folder.h"
#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

std::vector<std::int64_t> counts(const ModelConfig& config, int pp) {
  std::vector<std::int64_t> counted;
  std::int64_t next = 0;
  for (const Range& layers : stage_layers(config, pp)) {
    EXPECT_EQ(layers.first, next);
    next = layers.end;
    counted.push_back(layers.count());
  }
  EXPECT_EQ(next, config.text.layers);
  return counted;
}

TEST(Stages, OfThePublishedSizes) {
  using Counts = std::vector<std::int64_t>;
  for (const char* size : {"2B", "4B", "8B", "32B", "30B-A3B", "235B-A22B"}) {
    const ModelConfig config = parsed(published_config(size));
    const std::int64_t layers = config.text.layers;
    EXPECT_EQ(counts(config, 1), Counts{layers}) << size;
    EXPECT_EQ(counts(config, 2), (Counts{layers / 2, layers / 2})) << size;
    EXPECT_EQ(counts(config, static_cast<int>(layers)), Counts(static_cast<std::size_t>(layers), 1)) << size;
    for (int pp = 1; pp <= layers; ++pp) {
      const Counts counted = counts(config, pp);
      EXPECT_GE(std::ranges::min(counted), 1);
      EXPECT_EQ(std::ranges::max(counted), (layers + pp - 1) / pp)
          << size << ": a stage is longer than it must be, pp " << pp;
      EXPECT_LE(counted.back(), layers / pp) << size << ": the head's stage gets no layer that is left over, pp " << pp;
    }
  }
  EXPECT_EQ(counts(parsed(published_config("235B-A22B")), 4), (Counts{24, 24, 23, 23}));
  EXPECT_EQ(counts(parsed(published_config("2B")), 8), (Counts{4, 4, 4, 4, 3, 3, 3, 3}));
}

TEST(Stages, AHeadThatWeighsLayersTakesThem) {
  ModelConfig config = parsed(published_config("2B"));
  const LayerWork work = layer_work(config.text);
  config.text.vocabulary *=
      static_cast<std::int64_t>(4.5 * 1024 * work.row / (kRowsOfReading * work.head));  // 4.5 layers
  EXPECT_EQ(counts(config, 2), (std::vector<std::int64_t>{16, 12}));
  EXPECT_EQ(counts(config, 4), (std::vector<std::int64_t>{8, 8, 8, 4}));
}

TEST(Stages, WorkIsThatOfTheShapes) {
  const TextConfig moe = parsed(published_config("30B-A3B")).text;
  const LayerWork work = layer_work(moe);
  EXPECT_EQ(work.row, 2048.0 * (2 * 4096 + 2 * 512) + 2048 * 128 + 8 * 3 * 2048.0 * 768);
  EXPECT_EQ(work.weights, 2048.0 * (2 * 4096 + 2 * 512) + 2048 * 128 + 128 * 3 * 2048.0 * 768);
  EXPECT_EQ(work.context, 2 * 4096);
  EXPECT_EQ(work.head, 2048.0 * 151936);
  const LayerWork dense = layer_work(parsed(published_config("8B")).text);
  EXPECT_EQ(dense.row, dense.weights);
}

TEST(Stages, FeaturesGoToTheStagesOfTheirLayers) {
  const ModelConfig config = read_model_config(golden_folder() / "checkpoints" / "tiny-moe");
  const std::int64_t hidden = config.text.hidden;
  ASSERT_EQ(config.vision.deepstack.size(), 3U);
  EXPECT_EQ(stage_of(config, 1, 0).feature_columns, (Range{0, 4 * hidden}));
  // 5 layers in 4 stages: 2, 1, 1, 1.
  EXPECT_EQ(stage_of(config, 4, 0).feature_columns, (Range{0, 3 * hidden}));
  EXPECT_EQ(stage_of(config, 4, 1).feature_columns, (Range{3 * hidden, 4 * hidden}));
  EXPECT_EQ(stage_of(config, 4, 2).feature_columns.count(), 0);
  EXPECT_EQ(stage_of(config, 4, 3).feature_columns.count(), 0);
  EXPECT_EQ(stage_of(config, 4, 3).layers, (Range{4, 5}));
  for (int stage = 0; stage < 4; ++stage) {
    EXPECT_EQ(stage_of(config, 4, stage).embeds, stage == 0);
    EXPECT_EQ(stage_of(config, 4, stage).has_head, stage == 3);
  }
}

TEST(Stages, MoreStagesThanLayersAreRefused) {
  const ModelConfig config = read_model_config(golden_folder() / "checkpoints" / "tiny-moe");
  expect_parts(message_of([&] { stage_layers(config, 6); }), {"a pipeline of 6 stages", "5 layers", "--pp 5"});
}

}  // namespace
}  // namespace zoetrope::test
