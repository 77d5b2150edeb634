#include "parallel/shards.h"

#include <gtest/gtest.h>

#include <string>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

// Sizes of the published dense 8B, mixture 30B and mixture 235B models.
const TextSizes kDense{.query_heads = 32,
                       .kv_heads = 8,
                       .head_dim = 128,
                       .attention_slices = 8,
                       .dense_intermediate = 12288,
                       .dense_slices = 8,
                       .vocabulary = 151936};
const TextSizes kMixture{
    .query_heads = 64, .kv_heads = 4, .head_dim = 128, .attention_slices = 8, .vocabulary = 151936};

std::string refusal(const TextSizes& sizes, int tp) {
  try {
    text_shards(sizes, tp, tp - 1);
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    return error.what();
  }
  return "";
}

TEST(CanonicalSlice, IsAPartOfK) { EXPECT_EQ(canonical_slice(4096, 8, 3), (Range{1536, 2048})); }

TEST(VocabularySlices, AreCeilDivisionsThatTile) {
  for (const std::int64_t vocabulary :
       {std::int64_t{151936}, std::int64_t{1000}, std::int64_t{17}, std::int64_t{16}, std::int64_t{5}}) {
    std::int64_t next = 0;
    for (int slice = 0; slice < kVocabularySlices; ++slice) {
      const Range range = vocabulary_slice(vocabulary, slice);
      EXPECT_EQ(range.first, next);
      EXPECT_LE(range.count(), (vocabulary + 15) / 16);
      next = range.end;
    }
    EXPECT_EQ(next, vocabulary);
  }
  EXPECT_EQ(vocabulary_slice(17, 8), (Range{16, 17}));
  EXPECT_EQ(vocabulary_slice(17, 9).count(), 0);
}

TEST(TextShards, TileEveryMatrix) {
  for (const TextSizes& sizes : {kDense, kMixture}) {
    for (const int tp : {1, 2, 4, 8}) {
      std::int64_t heads = 0;
      std::int64_t columns = 0;
      std::int64_t words = 0;
      for (int i = 0; i < tp; ++i) {
        const TpShards shards = text_shards(sizes, tp, i);
        EXPECT_EQ(shards.query_heads.first, heads);
        EXPECT_EQ(shards.vocabulary.first, words);
        EXPECT_EQ(shards.dense_columns.first, columns);
        heads = shards.query_heads.end;
        words = shards.vocabulary.end;
        columns = shards.dense_columns.end;
        // The slices are those of the one-rank matrix, and they cover exactly the rank's columns.
        EXPECT_EQ(shards.attention_slices, 8);
        const std::int64_t k = sizes.query_heads * sizes.head_dim;
        EXPECT_EQ(canonical_slice(k, 8, static_cast<int>(shards.own_attention_slices.first)).first,
                  shards.query_heads.first * sizes.head_dim);
        EXPECT_EQ(shards.own_attention_slices.count(), 8 / tp);
        EXPECT_EQ(shards.own_vocabulary_slices.count(), 16 / tp);
        // Each query head's KV head is at hand.
        for (std::int64_t q = shards.query_heads.first; q < shards.query_heads.end; ++q) {
          const std::int64_t kv = q / (sizes.query_heads / sizes.kv_heads);
          EXPECT_TRUE(kv >= shards.kv_heads.first && kv < shards.kv_heads.end);
        }
        EXPECT_EQ(shards.kv_heads.count(), std::max<std::int64_t>(1, sizes.kv_heads / tp));
      }
      EXPECT_EQ(heads, sizes.query_heads);
      EXPECT_EQ(words, sizes.vocabulary);
      EXPECT_EQ(columns, sizes.dense_intermediate);
    }
  }
  EXPECT_EQ(text_shards(kMixture, 8, 5).kv_heads, (Range{2, 3}));  // 4 KV heads over 8 ranks: each twice
}

TEST(TextShards, RefusalsShowTheMatrixAndTheDivision) {
  EXPECT_NE(refusal(kDense, 16).find("o_proj"), std::string::npos);
  EXPECT_NE(refusal(kDense, 16).find("8 / 16 (tp) leaves 8"), std::string::npos) << refusal(kDense, 16);
  EXPECT_NE(refusal(kDense, 3).find("8 / 3 (tp) leaves 2"), std::string::npos);
  EXPECT_NE(refusal(kDense, 3).find("use --tp 1, 2, 4 or 8"), std::string::npos) << refusal(kDense, 3);
  TextSizes sizes = kDense;
  sizes.dense_intermediate = 9728;
  sizes.dense_slices = 4;  // 76 blocks of 128
  EXPECT_EQ(refusal(sizes, 4), "");
  EXPECT_NE(refusal(sizes, 8).find("down_proj"), std::string::npos) << refusal(sizes, 8);
  EXPECT_NE(refusal(sizes, 8).find("4 / 8 (tp) leaves 4"), std::string::npos);
  sizes = kDense;
  sizes.query_heads = 24;
  sizes.kv_heads = 3;
  EXPECT_NE(refusal(sizes, 2).find("k_proj"), std::string::npos) << refusal(sizes, 2);
  sizes.kv_heads = 5;
  EXPECT_NE(refusal(sizes, 1).find("24 query heads / 5 KV heads leaves 4"), std::string::npos);
  sizes.kv_heads = 0;
  EXPECT_NE(refusal(sizes, 1), "");
  sizes = kDense;
  sizes.dense_intermediate = 12289;
  EXPECT_NE(refusal(sizes, 1).find("dense intermediate 12289 in 8 slices"), std::string::npos) << refusal(sizes, 1);
}

}  // namespace
}  // namespace zoetrope
