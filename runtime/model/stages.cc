#include "runtime/model/stages.h"

#include <algorithm>

#include "monitoring/check.h"
#include "runtime/checkpoint/legal_layouts.h"

namespace zoetrope {
namespace {

constexpr double kRowsOfStep = 1024;

}  // namespace

LayerWork layer_work(const TextConfig& text) {
  const auto hidden = static_cast<double>(text.hidden);
  const double attention = hidden * static_cast<double>(2 * text.query_width() + 2 * text.kv_width());
  const double expert = 3 * hidden * static_cast<double>(text.expert_intermediate);
  const double router = hidden * text.experts;
  const double dense = 3 * hidden * static_cast<double>(text.intermediate);
  LayerWork work;
  work.experts = text.moe() ? text.experts_per_token * expert : 0;
  work.row = attention + (text.moe() ? router + work.experts : dense);
  work.context = 2 * static_cast<double>(text.query_width());
  work.weights = attention + (text.moe() ? router + text.experts * expert : dense);
  work.head = hidden * static_cast<double>(text.vocabulary);
  return work;
}

std::vector<Range> stage_layers(const ModelConfig& config, int pp) {
  check_pp(config, pp);
  const LayerWork work = layer_work(config.text);
  const double head = work.head * kRowsOfReading / (work.row * kRowsOfStep);  // in layers
  const int layers = config.text.layers;
  // The last stage takes as many layers as leave the slowest stage quickest, and the more the better when several do.
  int last = 0;
  double best = 0;
  for (int count = 1; count <= layers - (pp - 1); ++count) {
    const int others = pp == 1 ? 0 : div_ceil(layers - count, pp - 1);
    const double slowest = std::max<double>(others, count + head);
    if ((pp > 1 || count == layers) && (last == 0 || slowest <= best)) {
      last = count;
      best = slowest;
    }
  }
  std::vector<Range> stages;
  for (int stage = 0; stage < pp - 1; ++stage) {
    stages.push_back(dealt(layers - last, stage, pp - 1));
  }
  stages.push_back({.first = layers - last, .end = layers});
  return stages;
}

Stage stage_of(const ModelConfig& config, int pp, int stage) {
  check(stage >= 0 && stage < pp, "a stage lies in the pipe");
  const Range layers = stage_layers(config, pp)[static_cast<std::size_t>(stage)];
  const auto deepstack = static_cast<std::int64_t>(config.vision.deepstack.size());
  const std::int64_t first = stage == 0 ? 0 : 1 + std::min(layers.first, deepstack);
  const std::int64_t end = 1 + std::min(layers.end, deepstack);
  return {.layers = layers,
          .embeds = stage == 0,
          .has_head = stage == pp - 1,
          .feature_columns = {.first = first * config.text.hidden, .end = std::max(first, end) * config.text.hidden}};
}

}  // namespace zoetrope
