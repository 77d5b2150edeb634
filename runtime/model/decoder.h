// The text decoder of one rank (reference section 4). The residual stream h is dealt by rows over the tp group; norms
// and additions work on own rows, attention and the dense feed-forward on whole rows with own heads and columns.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/attention.h"
#include "kernels/compute.h"
#include "parallel/expert_exchange.h"
#include "parallel/hand_over.h"
#include "parallel/ranks.h"
#include "parallel/ring_attention.h"
#include "runtime/checkpoint/config.h"
#include "runtime/model/activations.h"
#include "runtime/model/feed_forward.h"
#include "runtime/model/model.h"
#include "runtime/model/row_step.h"
#include "runtime/model/text_shard.h"
#include "runtime/model/weights.h"

namespace zoetrope {

class Decoder {
 public:
  // All but `options` outlive the decoder. `deepstack`: layers behind which visual features join. Collective.
  Decoder(const TextConfig& config, int deepstack, const TextWeights& weights, const Stage& stage,
          const TextShard& shard, Ranks& ranks, const ExpertPlacement& experts, const Model::Options& options);

  KvLayout kv_layout() const;
  const RingRates& ring_rates() const { return ring_attention_.rates(); }
  void set_host_rates(const RingRates& rates) { ring_attention_.set_host_rates(rates); }
  void forward(const StepInputs& inputs, KvCache& cache, Rows<float> logits);
  double pipe_wait_seconds() const { return hand_over_.waited_seconds(); }
  std::int64_t routing_ties() const { return moe_ ? moe_->routing_ties() : 0; }
  const ExpertCounts& expert_counts() const {
    static const ExpertCounts none;
    return moe_ ? moe_->counts() : none;
  }

 private:
  // What all layers of one step share.
  struct Step {
    const StepInputs& inputs;
    KvCache& cache;
    RowStep rows;
    Rows<float> h;                     // [t, H] own rows
    Rows<float> normed;                // [T, H]
    Rows<const float> cos, sin;        // [T, D/2]
    std::vector<std::int64_t> visual;  // own rows of h that show something, ascending
    std::int64_t first_visual = 0;     // row of inputs.visual that belongs to visual[0]
    std::vector<Range> kept;           // runs of rows whose sequences live on this member whole
    bool ring_opened = false;          // a layer of this step has met the other members of the spans
  };

  void check_inputs(const StepInputs& inputs, Rows<float> logits) const;
  Step begin(const StepInputs& inputs, KvCache& cache);
  void embed_tokens(const Step& step);
  void run_layers(Step& step);
  // `layer` counts those of the model, `local` those of the stage.
  void attention_block(const TextLayerWeights& weights, int local, Step& step);
  void poll(const Step& step);
  void attend(Step& step, int local, Rows<const float> q, Rows<const float> k, Rows<const float> v,
              Rows<float> attended);
  void feed_forward(const TextLayerWeights& weights, int layer, Step& step);
  void add_deepstack(int layer, Step& step);
  void run_head(Step& step, Rows<float> logits);

  Rows<float> own_normed(const Step& step) const {
    return step.normed.slice(step.rows.own.first, step.rows.own.count());
  }
  void observe(const Step& step, std::string_view name, Rows<const float> own) const;

  const TextConfig& config_;
  int deepstack_;
  const TextWeights& weights_;
  const Stage& stage_;
  const TextShard& shard_;
  Ranks& ranks_;
  Compute compute_;
  Observer observer_;
  float rms_eps_;
  std::vector<float> inv_freq_;     // [D/2]
  std::vector<std::uint8_t> axes_;  // [D/2]
  std::optional<MoeFeedForward> moe_;
  RingAttention ring_attention_;
  HandOver hand_over_;
  TextActivations activations_;
};

}  // namespace zoetrope
