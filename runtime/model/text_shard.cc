#include "runtime/model/text_shard.h"

#include <algorithm>

#include "monitoring/check.h"
#include "parallel/shards.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kPair = 2;  // bf16 weights are multiplied in pairs of inputs
constexpr int kExpertSlices = 2;

// One-answer rule 2: two slices, where a slice holds whole pairs, or with FP8 weights whole blocks of scales.
int expert_slices(const ModelConfig& config, std::int64_t unit) {
  const std::int64_t k = config.text.expert_intermediate;
  return k % unit == 0 ? std::min(kExpertSlices, canonical_slices(k, unit)) : 1;
}

}  // namespace

Range vocabulary_shard(std::int64_t vocabulary, int tp_index, int tp) {
  const int slices = div_exact(kVocabularySlices, tp);
  return {.first = vocabulary_slice(vocabulary, tp_index * slices).first,
          .end = vocabulary_slice(vocabulary, (tp_index + 1) * slices - 1).end};
}

TextShard text_shard(const ModelConfig& config, int tp_index, int tp) {
  const TextConfig& text = config.text;
  const std::int64_t unit = config.fp8 ? kFp8Block : kPair;
  const TpShards shards = text_shards({.query_heads = text.heads,
                                       .kv_heads = text.kv_heads,
                                       .head_dim = text.head_dim,
                                       .dense_intermediate = text.moe() ? 0 : text.intermediate,
                                       .dense_unit = unit,
                                       .vocabulary = text.vocabulary},
                                      tp, tp_index);
  return {.heads = shards.query_heads,
          .kv_heads = shards.kv_heads,
          .output_slices = static_cast<int>(shards.own_attention_slices.count()),
          .intermediate = shards.dense_columns,
          .down_slices = static_cast<int>(shards.own_dense_slices.count()),
          .expert_slices = text.moe() ? expert_slices(config, unit) : 1,
          .vocabulary = shards.vocabulary};
}

}  // namespace zoetrope
