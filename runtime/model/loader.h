// From the tensors of a checkpoint to the weights of one rank.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "kernels/compute.h"
#include "parallel/ranks.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/stages.h"
#include "runtime/model/text_shard.h"
#include "runtime/model/weight_packer.h"
#include "runtime/model/weights.h"

namespace zoetrope {

struct LoadedWeights {
  VisionWeights vision;
  TextWeights text;
  WeightPacker::Packed vision_memory, text_memory;

  // Bytes of packed weights; those shared by ranks of a host are counted by the first of them.
  std::size_t resident_bytes(const Ranks& ranks) const;
};

// Reads the slices of this rank (the layers of its stage, the head on the last one) and packs them. What every rank of
// a host needs whole is packed once per host: the vision tower; for the ranks of one stage norms and routers, and the
// rest of the decoder when tp is 1. `experts`: those of this rank in each layer of the model, ascending; empty for a
// dense model; shard e * shard.expert_shards + s of expert e where experts are cut. The checkpoint must outlive the
// weights (the embedding is read in place). Collective over the ranks of the host.
std::unique_ptr<LoadedWeights> load_weights(const Checkpoint& checkpoint, Ranks& ranks, const Compute& compute,
                                            const TextShard& shard, const std::vector<std::vector<int>>& experts,
                                            const std::function<void(double)>& progress);

}  // namespace zoetrope
