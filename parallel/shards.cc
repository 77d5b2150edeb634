#include "parallel/shards.h"

#include <fmt/format.h>

#include <algorithm>

#include "monitoring/check.h"
#include "monitoring/error.h"

namespace zoetrope {
namespace {

// "1, 2 or 4": the values of --tp that divide `slices` (a power of two).
std::string divisors(int slices) {
  std::string text = "1";
  for (int tp = 2; tp <= slices; tp *= 2) {
    text += fmt::format("{}{}", tp == slices ? " or " : ", ", tp);
  }
  return text;
}

// Slices of `slices` that a rank owns, all of them whole.
Range own_slices(const std::string& matrix, int slices, int tp, int tp_index) {
  if (slices % tp != 0) {
    refuse(Radius::kStartup,
           {matrix, fmt::format("{} canonical slices, and {} / {} (tp) leaves {}", slices, slices, tp, slices % tp),
            "a tp that divides them", fmt::format("use --tp {}", divisors(slices))});
  }
  const int each = slices / tp;
  return {.first = tp_index * each, .end = (tp_index + 1) * each};
}

void check_sizes(const TextSizes& sizes) {
  if (sizes.kv_heads <= 0 || sizes.query_heads <= 0 || sizes.head_dim <= 0 || sizes.vocabulary <= 0 ||
      sizes.dense_intermediate < 0 || sizes.attention_slices <= 0 || sizes.dense_slices <= 0 ||
      sizes.query_heads % sizes.attention_slices != 0 || sizes.dense_intermediate % sizes.dense_slices != 0) {
    refuse(
        Radius::kStartup,
        {"text sizes",
         fmt::format(
             "{} query heads in {} slices, {} KV heads, head_dim {}, dense intermediate {} in {} slices, vocabulary {}",
             sizes.query_heads, sizes.attention_slices, sizes.kv_heads, sizes.head_dim, sizes.dense_intermediate,
             sizes.dense_slices, sizes.vocabulary),
         "positive sizes and whole slices", "correct config.json"});
  }
  if (sizes.query_heads % sizes.kv_heads != 0) {
    refuse(Radius::kStartup, {"text attention",
                              fmt::format("{} query heads / {} KV heads leaves {}", sizes.query_heads, sizes.kv_heads,
                                          sizes.query_heads % sizes.kv_heads),
                              "a whole number of query heads to a KV head", "correct config.json"});
  }
}

// KV heads that `query` heads use. Whole shares of KV heads, or whole copies of one.
Range own_kv_heads(const TextSizes& sizes, const Range& query, int tp) {
  if (sizes.kv_heads % tp != 0 && tp % sizes.kv_heads != 0) {
    refuse(Radius::kStartup, {"k_proj and v_proj of the text layers",
                              fmt::format("{} KV heads, and neither {} / {} (tp) nor {} / {} is whole", sizes.kv_heads,
                                          sizes.kv_heads, tp, tp, sizes.kv_heads),
                              "a tp that divides the KV heads or is a multiple of them", "use a smaller --tp"});
  }
  const std::int64_t group = sizes.query_heads / sizes.kv_heads;
  return {.first = query.first / group, .end = div_ceil(query.end, group)};
}

}  // namespace

Range canonical_slice(std::int64_t k, int slices, int slice) {
  check(slice >= 0 && slice < slices, "a slice is one of its matrix");
  const std::int64_t each = div_exact<std::int64_t>(k, slices);
  return {.first = slice * each, .end = (slice + 1) * each};
}

Range vocabulary_slice(std::int64_t vocabulary, int slice) {
  check(slice >= 0 && slice < kVocabularySlices, "a vocabulary slice is one of 16");
  const std::int64_t each = div_ceil<std::int64_t>(vocabulary, kVocabularySlices);
  return {.first = std::min(slice * each, vocabulary), .end = std::min((slice + 1) * each, vocabulary)};
}

TpShards text_shards(const TextSizes& sizes, int tp, int tp_index) {
  check(tp > 0 && tp_index >= 0 && tp_index < tp, "a tp index is one of tp");
  check_sizes(sizes);
  TpShards shards;
  shards.tp = tp;
  shards.tp_index = tp_index;

  const std::int64_t attention_k = sizes.query_heads * sizes.head_dim;
  shards.attention_slices = sizes.attention_slices;
  shards.own_attention_slices = own_slices(fmt::format("o_proj of the text layers (k = {} = {} heads of {})",
                                                       attention_k, sizes.query_heads, sizes.head_dim),
                                           shards.attention_slices, tp, tp_index);
  const std::int64_t heads = div_exact<std::int64_t>(sizes.query_heads, tp);  // tp divides S, S divides the heads
  shards.query_heads = {.first = tp_index * heads, .end = (tp_index + 1) * heads};
  shards.kv_heads = own_kv_heads(sizes, shards.query_heads, tp);

  if (sizes.dense_intermediate > 0) {
    const std::int64_t k = sizes.dense_intermediate;
    shards.dense_slices = sizes.dense_slices;
    shards.own_dense_slices =
        own_slices(fmt::format("down_proj of the text layers (k = {})", k),
                   shards.dense_slices, tp, tp_index);
    shards.dense_columns = {
        .first = canonical_slice(k, shards.dense_slices, static_cast<int>(shards.own_dense_slices.first)).first,
        .end = canonical_slice(k, shards.dense_slices, static_cast<int>(shards.own_dense_slices.end) - 1).end};
  }

  shards.own_vocabulary_slices = own_slices(fmt::format("embed_tokens and lm_head (vocabulary {})", sizes.vocabulary),
                                            kVocabularySlices, tp, tp_index);
  shards.vocabulary = {
      .first = vocabulary_slice(sizes.vocabulary, static_cast<int>(shards.own_vocabulary_slices.first)).first,
      .end = vocabulary_slice(sizes.vocabulary, static_cast<int>(shards.own_vocabulary_slices.end) - 1).end};
  return shards;
}

}  // namespace zoetrope
