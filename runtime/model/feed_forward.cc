#include "runtime/model/feed_forward.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/router.h"
#include "kernels/row_pieces.h"
#include "monitoring/check.h"
#include "monitoring/trace.h"
#include "parallel/collectives.h"

namespace zoetrope {

void dense_feed_forward(const Compute& compute, Communicator& tp, const DenseWeights& weights, const RowStep& step,
                        TextActivations& activations, Rows<float> normed, Rows<float> h) {
  all_gather_rows(tp, normed, compute.rounds(), "input of the feed-forward");
  const Rows<float> gated = activations.gated.shaped(step.rows, weights.down.k);
  gated_matmul(compute, normed, weights.gate_up, gated);
  const Rows<float> partial = activations.partial.shaped(step.rows, h.columns);
  matmul(compute, {.x = gated, .w = weights.down, .out = partial});
  tree_reduce_scatter_rows(tp, partial, "output of the feed-forward");
  const Rows<float> own = partial.slice(step.own.first, step.own.count());
  add_rows(compute, h, own);
}

MoeFeedForward::MoeFeedForward(const TextConfig& config, Compute compute, Ranks& ranks,
                               const ExpertPlacement& placement, Observer observer)
    : config_(config),
      compute_(compute),
      exact_{.body = compute.body, .pool = compute.pool, .precision = Precision::kFp32},
      ranks_(ranks),
      observer_(std::move(observer)),
      shards_(placement.shards),
      exchange_(*ranks.stage, compute, config.hidden, placement) {
  counts_.experts = config.experts;
  counts_.chosen.resize(static_cast<std::size_t>(config.layers) * static_cast<std::size_t>(config.experts));
}

// The shards of chosen experts, [t, k * shards].
Rows<const std::int32_t> MoeFeedForward::shards_of(Rows<const std::int32_t> experts,
                                                   TextActivations& activations) const {
  if (shards_ == 1) {
    return experts;
  }
  const Rows<std::int32_t> shards = activations.shards.shaped(experts.rows, experts.columns * shards_);
  for (std::int64_t i = 0; i < shards.rows * shards.columns; ++i) {
    shards.data[i] = experts.data[i / shards_] * shards_ + static_cast<std::int32_t>(i % shards_);
  }
  return shards;
}

// The fp32 partials of an expert's two shards meet at home as its two canonical slices do, and are rounded there.
ExpertExchange::Home MoeFeedForward::met(ExpertExchange::Home home, TextActivations& activations) const {
  if (shards_ == 1) {
    return home;
  }
  check_eq(shards_, 2, "an expert has two canonical slices");
  const Rows<std::int32_t> slots = activations.slots.shaped(home.slots.rows, home.slots.columns / 2);
  over_rows(compute_, slots.rows, slots.columns * config_.hidden, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first * slots.columns; i < end * slots.columns; ++i) {
      slots.data[i] = home.slots.data[2 * i];
      float* const lower = home.outputs.row(home.slots.data[2 * i]);
      const float* const upper = home.outputs.row(home.slots.data[2 * i + 1]);
      for (std::int64_t c = 0; c < config_.hidden; ++c) {
        const float sum = lower[c] + upper[c];
        lower[c] = compute_.rounds() ? round_bf16(sum) : sum;
      }
    }
  });
  return {.outputs = home.outputs, .slots = slots};
}

void MoeFeedForward::run(int layer, const MoeWeights& weights, const RowStep& step, TextActivations& activations,
                         Rows<float> h) {
  const std::int64_t rows = step.own.count();
  const Rows<const float> normed = input(step);
  const Rows<float> logits = activations.logits.shaped(rows, config_.experts);
  // In fp32 in both modes: a near tie that falls the other way sends a token to other experts, and the product is
  // small.
  matmul(exact_, {.x = normed, .w = weights.router, .out = logits});
  const Rows<std::int32_t> experts = activations.experts.shaped(rows, config_.experts_per_token);
  const Rows<float> chosen_weights = activations.weights.shaped(rows, config_.experts_per_token);
  routing_ties_ += choose_experts(compute_, logits, experts, chosen_weights);
  if (observer_) {
    observe_rows(observer_, *ranks_.tp, step, fmt::format("router.{}.logits", layer), logits);
    observe_rows(observer_, *ranks_.tp, step, fmt::format("router.{}.experts", layer), experts);
    observe_rows(observer_, *ranks_.tp, step, fmt::format("router.{}.weights", layer), chosen_weights);
  }

  std::uint64_t* const chosen = counts_.of(layer).data();
  for (std::int64_t i = 0; i < rows * config_.experts_per_token; ++i) {
    chosen[experts.data[i]] += 1;
  }

  std::optional<Traced> traced;
  traced.emplace(compute_.trace, TracePhase::kDispatch, layer);
  const ExpertExchange::Arrived& arrived = exchange_.dispatch(shards_of(experts, activations), layer);
  counts_.answered += static_cast<std::uint64_t>(arrived.outputs);
  check_eq(arrived.rows.size(), weights.experts.size(), "arrived rows for every expert of this rank");
  traced.emplace(compute_.trace, TracePhase::kExperts, layer);
  std::vector<ExpertRows> work;
  for (std::size_t local = 0; local < weights.experts.size(); ++local) {
    if (!arrived.rows[local].empty()) {
      work.push_back(
          {.weights = &weights.experts[local], .x_rows = arrived.rows[local], .out_first = arrived.first[local]});
    }
  }
  grouped_experts(compute_, arrived.x, work,
                  activations.gated.shaped(arrived.outputs, config_.expert_intermediate / shards_), exchange_.outputs(),
                  shards_ == 1 ? Rounding::kBf16 : Rounding::kNone);
  traced.emplace(compute_.trace, TracePhase::kCombine, layer);
  const ExpertExchange::Home home = met(exchange_.combine(), activations);
  const Rows<float> combined = activations.combined.shaped(rows, config_.hidden);
  combine_experts(compute_, home.outputs, home.slots, experts, chosen_weights, combined);
  add_rows(compute_, h, combined);
}

}  // namespace zoetrope
