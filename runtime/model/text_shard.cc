#include "runtime/model/text_shard.h"

#include "monitoring/check.h"
#include "parallel/shards.h"
#include "runtime/checkpoint/legal_layouts.h"

namespace zoetrope {
Range vocabulary_shard(std::int64_t vocabulary, int tp_index, int tp) {
  const int slices = div_exact(kVocabularySlices, tp);
  return {.first = vocabulary_slice(vocabulary, tp_index * slices).first,
          .end = vocabulary_slice(vocabulary, (tp_index + 1) * slices - 1).end};
}

TextShard text_shard(const ModelConfig& config, int tp_index, int tp) {
  const TextConfig& text = config.text;
  const TpShards shards = text_shards({.query_heads = text.heads,
                                       .kv_heads = text.kv_heads,
                                       .head_dim = text.head_dim,
                                       .attention_slices = attention_output(config).slices,
                                       .dense_intermediate = text.moe() ? 0 : text.intermediate,
                                       .dense_slices = text.moe() ? 1 : dense_down(config).slices,
                                       .vocabulary = text.vocabulary},
                                      tp, tp_index);
  return {.heads = shards.query_heads,
          .kv_heads = shards.kv_heads,
          .output_slices = static_cast<int>(shards.own_attention_slices.count()),
          .intermediate = shards.dense_columns,
          .down_slices = static_cast<int>(shards.own_dense_slices.count()),
          .expert_slices = text.moe() ? expert_down(config).slices : 1,
          .expert_shards = 1,
          .vocabulary = shards.vocabulary};
}

}  // namespace zoetrope
