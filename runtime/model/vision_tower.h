// The vision tower: patches of frames -> one row per placeholder token (reference 3.4 to 3.8). Attention stays inside a
// frame, so frames are encoded anywhere and in any company with the same result.
#pragma once

#include "kernels/compute.h"
#include "runtime/checkpoint/config.h"
#include "runtime/model/activations.h"
#include "runtime/model/model.h"
#include "runtime/model/weights.h"

namespace zoetrope {

class VisionTower {
 public:
  // `config` and `weights` outlive the tower.
  VisionTower(const VisionConfig& config, const VisionWeights& weights, Compute compute, Observer observer);

  // out [patches / 4, (1 + deepstack) * O]: the main features, then those of DeepStack merger 0, 1, ...
  void encode(const VisionBatch& batch, Rows<float> out);

 private:
  void embed_patches(const VisionBatch& batch, Rows<float> h);
  void add_positions(const VisionBatch& batch, Rows<float> h);
  void build_rotary_table(const VisionBatch& batch, Rows<float> cos, Rows<float> sin);
  void run_block(const VisionBlockWeights& block, std::span<const std::int64_t> frames, Rows<const float> cos,
                 Rows<const float> sin, Rows<float> h);
  // h [P, D] -> out [P/4, O]
  void merge_main(Rows<const float> h, Rows<float> out);
  void merge_deepstack(const MergerWeights& merger, Rows<const float> h, Rows<float> out);
  void merge(const MergerWeights& merger, Rows<const float> joined /* [P/4, 4D] */, Rows<float> out);
  void observe(std::string_view name, Rows<const float> values) const;

  const VisionConfig& config_;
  const VisionWeights& weights_;
  Compute compute_;
  Observer observer_;
  VisionActivations activations_;
};

}  // namespace zoetrope
