// How the layers of a model are cut in the stages of a pipeline, and what a layer costs: pure arithmetic on the
// configuration.
#pragma once

#include <vector>

#include "parallel/layout.h"
#include "runtime/checkpoint/config.h"

namespace zoetrope {

// Multiply-adds of a decoder; all its layers are alike.
struct LayerWork {
  double row = 0;      // of one row in the products of a layer
  double experts = 0;  // of these, in its experts
  double context = 0;  // of one row of a layer and one token of its context, in attention
  double weights = 0;  // numbers in the matrices of a layer, all experts
  double head = 0;     // of one row of logits
};
LayerWork layer_work(const TextConfig& text);

// A product of fewer rows takes as long as one of so many, because all its weights are read: 2 bytes a weight at about
// 40 GB/s beside 2 operations a row at about 450 GF/s (docs/performance.md, one core of machine A).
constexpr double kRowsOfReading = 12;

// Layers of each stage, in order and without gaps, every stage at least one: the cut whose slowest stage is quickest in
// a long prefill, where a step of 1024 rows asks for one row of logits at the end. The vision tower is on every rank
// and its frames are dealt over all of them, so it weighs nothing here; the embedding copies rows. Error(kStartup) when
// there are fewer layers than stages.
std::vector<Range> stage_layers(const ModelConfig& config, int pp);

// What one stage holds.
struct Stage {
  Range layers;           // of the decoder
  bool embeds = true;     // the first stage turns tokens into rows
  bool has_head = true;   // the last stage turns rows into logits
  Range feature_columns;  // of the (1 + deepstack) * H of a visual row: those that these layers add
};
Stage stage_of(const ModelConfig& config, int pp, int stage);

}  // namespace zoetrope
