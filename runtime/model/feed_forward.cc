#include "runtime/model/feed_forward.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/router.h"
#include "monitoring/check.h"
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

MoeFeedForward::MoeFeedForward(const TextConfig& config, Compute compute, Ranks& ranks, const ExpertTable& table,
                               Observer observer)
    : config_(config),
      compute_(compute),
      exact_{.body = compute.body, .pool = compute.pool, .precision = Precision::kFp32},
      ranks_(ranks),
      observer_(std::move(observer)),
      exchange_(*ranks.stage, table, config.hidden, compute.precision) {}

void MoeFeedForward::run(int layer, const MoeWeights& weights, const RowStep& step, TextActivations& activations,
                         Rows<const float> normed, Rows<float> h) {
  const std::int64_t rows = step.own.count();
  const Rows<float> logits = activations.logits.shaped(rows, config_.experts);
  // In fp32 in both modes: a near tie that falls the other way sends a token to other experts, and the product is small.
  matmul(exact_, {.x = normed, .w = weights.router, .out = logits});
  const Rows<std::int32_t> experts = activations.experts.shaped(rows, config_.experts_per_token);
  const Rows<float> chosen_weights = activations.weights.shaped(rows, config_.experts_per_token);
  routing_ties_ += choose_experts(compute_, logits, experts, chosen_weights);
  if (observer_) {
    observe_rows(observer_, *ranks_.tp, step, fmt::format("router.{}.logits", layer), logits);
    observe_rows(observer_, *ranks_.tp, step, fmt::format("router.{}.experts", layer), experts);
    observe_rows(observer_, *ranks_.tp, step, fmt::format("router.{}.weights", layer), chosen_weights);
  }

  const ExpertExchange::Arrived& arrived = exchange_.dispatch(normed, experts);
  check_eq(arrived.rows.size(), weights.experts.size(), "arrived rows for every expert of this rank");
  std::vector<ExpertRows> work;
  for (std::size_t local = 0; local < weights.experts.size(); ++local) {
    if (!arrived.rows[local].empty()) {
      work.push_back(
          {.weights = &weights.experts[local], .x_rows = arrived.rows[local], .out_first = arrived.first[local]});
    }
  }
  const Rows<float> outputs = activations.outputs.shaped(arrived.outputs, config_.hidden);
  grouped_experts(compute_, arrived.x, work, activations.gated.shaped(arrived.outputs, config_.expert_intermediate),
                  outputs);
  const ExpertExchange::Home home = exchange_.combine(outputs);
  const Rows<float> combined = activations.combined.shaped(rows, config_.hidden);
  combine_experts(compute_, home.outputs, home.slots, experts, chosen_weights, combined);
  add_rows(compute_, h, combined);
}

}  // namespace zoetrope
