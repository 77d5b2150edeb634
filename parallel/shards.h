// Who holds which part of the text weights: pure functions of sizes and a rank's place on the tp axis.
// docs/one-answer.md rules 2 and 5 fix the canonical slices; tp may only deal whole slices.
#pragma once

#include <cstdint>

#include "parallel/layout.h"

namespace zoetrope {

constexpr int kVocabularySlices = 16;

// The part of k that canonical slice `slice` of `slices` covers.
Range canonical_slice(std::int64_t k, int slices, int slice);

// Ids of vocabulary slice `slice` of 16: [slice * c, (slice + 1) * c) with c = ceil(vocabulary / 16), cut at the end.
// Where 16 does not divide the vocabulary the last slices are shorter, or empty for a tiny vocabulary.
Range vocabulary_slice(std::int64_t vocabulary, int slice);

struct TextSizes {
  std::int64_t query_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  int attention_slices = 1;             // S of o_proj: canonical_slices of runtime/checkpoint/legal_layouts.h
  std::int64_t dense_intermediate = 0;  // 0: every layer is a mixture of experts
  int dense_slices = 1;                 // S of the dense down_proj
  std::int64_t vocabulary = 0;
};

// What one tp rank holds. The ranges of all ranks follow each other without gaps, but KV heads repeat when tp >
// kv_heads.
struct TpShards {
  int tp = 1;
  int tp_index = 0;

  Range query_heads;  // rows [first * head_dim, end * head_dim) of q_proj, the same columns of o_proj
  Range kv_heads;     // rows of k_proj and v_proj, likewise

  int attention_slices = 1;    // S of o_proj
  Range own_attention_slices;  // of the S
  int dense_slices = 1;        // S of the dense down_proj
  Range own_dense_slices;      // of the S
  Range dense_columns;         // rows of gate_proj and up_proj, columns of down_proj; empty without a dense MLP

  Range own_vocabulary_slices;  // of the 16
  Range vocabulary;             // rows of embed_tokens and lm_head
};

// Error(kStartup), with the matrix and the division that leaves a rest, when tp cannot cut them.
TpShards text_shards(const TextSizes& sizes, int tp, int tp_index);

}  // namespace zoetrope
