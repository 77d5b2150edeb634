#include "runtime/model/text_shard.h"

#include <algorithm>

#include "monitoring/check.h"
#include "runtime/checkpoint/legal_layouts.h"

namespace zoetrope {

Range vocabulary_shard(std::int64_t vocabulary, int tp_index, int tp) {
  const int slices = div_exact(kVocabularySlices, tp);
  return {.first = dealt(vocabulary, tp_index * slices, kVocabularySlices).first,
          .end = dealt(vocabulary, (tp_index + 1) * slices - 1, kVocabularySlices).end};
}

TextShard text_shard(const ModelConfig& config, int tp_index, int tp) {
  check_tp(config, tp);
  const TextConfig& text = config.text;
  TextShard shard;
  const std::int64_t heads = div_exact(text.heads, tp);
  shard.heads = {.first = tp_index * heads, .end = (tp_index + 1) * heads};
  const std::int64_t heads_per_kv = div_exact(text.heads, text.kv_heads);
  const std::int64_t first_kv = shard.heads.first / heads_per_kv;
  shard.kv_heads = {.first = first_kv, .end = first_kv + std::max<std::int64_t>(1, heads / heads_per_kv)};
  check_eq((shard.heads.end - 1) / heads_per_kv + 1, shard.kv_heads.end, "the heads of a rank use whole groups of KV heads");
  shard.output_slices = div_exact(attention_output(config).slices, tp);
  if (text.moe()) {
    shard.expert_slices = expert_down(config).slices;
  } else {
    const std::int64_t columns = div_exact<std::int64_t>(text.intermediate, tp);
    shard.intermediate = {.first = tp_index * columns, .end = (tp_index + 1) * columns};
    shard.down_slices = div_exact(dense_down(config).slices, tp);
  }
  shard.vocabulary = vocabulary_shard(text.vocabulary, tp_index, tp);
  return shard;
}

}  // namespace zoetrope
