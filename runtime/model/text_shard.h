// What one rank of a tensor-parallel group holds of the decoder: pure arithmetic on the configuration.
#pragma once

#include <cstdint>

#include "parallel/layout.h"
#include "runtime/checkpoint/config.h"

namespace zoetrope {

struct TextShard {
  Range heads;            // query heads
  Range kv_heads;         // the KV heads they use; several ranks hold the same one when tp > kv_heads
  int output_slices = 1;  // canonical slices of the attention output's inputs held here
  Range intermediate;     // columns of the dense feed-forward; empty for MoE
  int down_slices = 1;    // canonical slices of them
  int expert_slices = 1;  // of every expert's down projection
  int expert_shards = 1;  // ranks that an expert is cut over: each holds expert_slices / expert_shards slices
  Range vocabulary;       // rows of the head
};

// Error(kStartup) with the division that fails when `tp` ranks cannot cut the model.
TextShard text_shard(const ModelConfig& config, int tp_index, int tp);

// Rows of the head that rank `tp_index` holds: whole canonical slices of the vocabulary.
Range vocabulary_shard(std::int64_t vocabulary, int tp_index, int tp);

}  // namespace zoetrope
