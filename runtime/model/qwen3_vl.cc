#include "runtime/model/qwen3_vl.h"

#include <utility>

#include "runtime/checkpoint/legal_layouts.h"

namespace zoetrope {

std::unique_ptr<Model> Qwen3Vl::load(const Checkpoint& checkpoint, Ranks& ranks, Options options) {
  const ModelConfig& config = checkpoint.config();
  check_pp(config, ranks.layout.pp);
  TextShard shard = text_shard(config, ranks.place.tp_index, ranks.layout.tp);
  ExpertPlacement experts = options.experts;
  if (config.text.moe() && experts.tables.empty()) {
    experts.tables = {ExpertTable::contiguous(config.text.experts, ranks.layout.stage_ranks())};
  }
  shard.expert_shards = experts.shards;
  std::vector<std::vector<int>> own_experts;  // of each layer
  if (config.text.moe()) {
    own_experts = experts.experts_of(ranks.stage->rank(), config.text.layers);
  }
  auto weights = load_weights(checkpoint, ranks, options.compute, shard, own_experts, options.progress);
  return std::unique_ptr<Model>(new Qwen3Vl(config, ranks, shard, experts, std::move(weights), options));
}

Qwen3Vl::Qwen3Vl(const ModelConfig& config, Ranks& ranks, const TextShard& shard, const ExpertPlacement& experts,
                 std::unique_ptr<LoadedWeights> weights, const Options& options)
    : config_(config),
      stage_(stage_of(config, ranks.layout.pp, ranks.place.stage)),
      shard_(shard),
      weights_(std::move(weights)),
      resident_bytes_(weights_->resident_bytes(ranks)),
      vision_(config_.vision, weights_->vision, options.compute, options.observer),
      decoder_(config_.text, static_cast<int>(config_.vision.deepstack.size()), weights_->text, stage_, shard_, ranks,
               experts, options) {}

int Qwen3Vl::feature_columns() const {
  return static_cast<int>((1 + static_cast<std::int64_t>(config_.vision.deepstack.size())) * config_.text.hidden);
}

}  // namespace zoetrope
