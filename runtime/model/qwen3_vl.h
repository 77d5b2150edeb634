// Qwen3-VL, dense and mixture of experts: the vision tower and the decoder over one set of loaded weights.
#pragma once

#include <memory>

#include "runtime/model/decoder.h"
#include "runtime/model/loader.h"
#include "runtime/model/model.h"
#include "runtime/model/vision_tower.h"

namespace zoetrope {

class Qwen3Vl final : public Model {
 public:
  // Collective. Error(kStartup) when the layout cannot cut this model.
  static std::unique_ptr<Model> load(const Checkpoint& checkpoint, Ranks& ranks, Options options);

  const ModelConfig& config() const override { return config_; }
  KvLayout kv_layout() const override { return decoder_.kv_layout(); }
  const RingRates& ring_rates() const override { return decoder_.ring_rates(); }
  void set_host_rates(const RingRates& rates) override { decoder_.set_host_rates(rates); }
  const Stage& stage() const override { return stage_; }
  int feature_columns() const override;
  void encode(const VisionBatch& batch, Rows<float> out) override { vision_.encode(batch, out); }
  void forward(const StepInputs& inputs, KvCache& cache, Rows<float> logits) override {
    decoder_.forward(inputs, cache, logits);
  }
  double pipe_wait_seconds() const override { return decoder_.pipe_wait_seconds(); }
  std::size_t resident_bytes() const override { return resident_bytes_; }
  std::int64_t routing_ties() const override { return decoder_.routing_ties(); }
  const ExpertCounts& expert_counts() const override { return decoder_.expert_counts(); }

 private:
  Qwen3Vl(const ModelConfig& config, Ranks& ranks, const TextShard& shard, const ExpertPlacement& experts,
          std::unique_ptr<LoadedWeights> weights, const Options& options);

  ModelConfig config_;
  Stage stage_;
  TextShard shard_;
  std::unique_ptr<LoadedWeights> weights_;
  std::size_t resident_bytes_;
  VisionTower vision_;
  Decoder decoder_;
};

}  // namespace zoetrope
