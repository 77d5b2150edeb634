// The second half of a decoder layer: a gated MLP, dense (reference 4.5) or a mixture of experts (4.6).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/compute.h"
#include "parallel/expert_exchange.h"
#include "parallel/ranks.h"
#include "runtime/checkpoint/config.h"
#include "runtime/model/activations.h"
#include "runtime/model/row_step.h"
#include "runtime/model/text_shard.h"
#include "runtime/model/weights.h"

namespace zoetrope {

// Dense: columns are cut over the tp group. `normed` [T, H] has this rank's own rows; `h` [t, H] are the own residual
// rows, to which the result is added. Collective over tp.
void dense_feed_forward(const Compute& compute, Communicator& tp, const DenseWeights& weights, const RowStep& step,
                        TextActivations& activations, Rows<float> normed, Rows<float> h);

// Experts are placed over all ranks of the stage; every rank joins every exchange, with rows or without.
class MoeFeedForward {
 public:
  MoeFeedForward(const TextConfig& config, Compute compute, Ranks& ranks, const ExpertPlacement& placement,
                 Observer observer);

  // Where the normalised own rows [t, H] are to be written before run(): those of experts that live here stay there.
  Rows<float> input(const RowStep& step) { return exchange_.own_rows(step.own.count()); }

  // Adds the experts' answer to input() to `h` [t, H]. Collective over the stage.
  void run(int layer, const MoeWeights& weights, const RowStep& step, TextActivations& activations, Rows<float> h);

  std::int64_t routing_ties() const { return routing_ties_; }  // rows so far whose cut went through equal probabilities
  const ExpertCounts& counts() const { return counts_; }

 private:
  Rows<const std::int32_t> shards_of(Rows<const std::int32_t> experts, TextActivations& activations) const;
  ExpertExchange::Home met(ExpertExchange::Home home, TextActivations& activations) const;

  const TextConfig& config_;
  Compute compute_;
  Compute exact_;  // the router's: fp32 whatever the mode
  Ranks& ranks_;
  Observer observer_;
  int shards_;  // ranks that an expert is cut over
  ExpertExchange exchange_;
  std::int64_t routing_ties_ = 0;
  ExpertCounts counts_;
};

}  // namespace zoetrope
