#include "runtime/model/text_shard.h"

#include <gtest/gtest.h>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

ModelConfig dense_config() {
  ModelConfig config;
  config.text.hidden = 128;
  config.text.heads = 8;
  config.text.kv_heads = 2;
  config.text.head_dim = 32;
  config.text.intermediate = 320;
  config.text.vocabulary = 1536;
  return config;
}

ModelConfig moe_config() {
  ModelConfig config = dense_config();
  config.text.intermediate = 0;
  config.text.experts = 8;
  config.text.experts_per_token = 2;
  config.text.expert_intermediate = 64;
  return config;
}

TEST(TextShard, OneRankHoldsEverything) {
  const TextShard shard = text_shard(dense_config(), 0, 1);
  EXPECT_EQ(shard.heads, (Range{0, 8}));
  EXPECT_EQ(shard.kv_heads, (Range{0, 2}));
  EXPECT_EQ(shard.output_slices, 8);
  EXPECT_EQ(shard.intermediate, (Range{0, 320}));
  EXPECT_EQ(shard.down_slices, 8);
  EXPECT_EQ(shard.vocabulary, (Range{0, 1536}));
}

TEST(TextShard, FourRanksShareKvHeadsInPairs) {
  for (int rank = 0; rank < 4; ++rank) {
    const TextShard shard = text_shard(dense_config(), rank, 4);
    EXPECT_EQ(shard.heads, (Range{2 * rank, 2 * rank + 2}));
    EXPECT_EQ(shard.kv_heads, (Range{rank / 2, rank / 2 + 1}));
    EXPECT_EQ(shard.output_slices, 2);
    EXPECT_EQ(shard.intermediate, (Range{80 * rank, 80 * rank + 80}));
    EXPECT_EQ(shard.down_slices, 2);
    EXPECT_EQ(shard.vocabulary, (Range{384 * rank, 384 * rank + 384}));
  }
}

TEST(TextShard, VocabulariesThatSixteenDoesNotDivideAreCoveredOnce) {
  for (const std::int64_t vocabulary : {1500, 17, 16, 5}) {
    for (const int tp : {1, 2, 4, 8, 16}) {
      std::int64_t next = 0;
      for (int rank = 0; rank < tp; ++rank) {
        const Range range = vocabulary_shard(vocabulary, rank, tp);
        EXPECT_EQ(range.first, next);
        next = range.end;
      }
      EXPECT_EQ(next, vocabulary);
    }
  }
}

TEST(TextShard, ExpertsAreCutInTwoSlicesOfWholeUnits) {
  ModelConfig config = moe_config();
  EXPECT_EQ(text_shard(config, 0, 1).expert_slices, 2);
  EXPECT_EQ(text_shard(config, 0, 1).intermediate.count(), 0);
  config.fp8 = true;
  config.text.head_dim = 128;
  config.text.expert_intermediate = 768;
  EXPECT_EQ(text_shard(config, 0, 1).expert_slices, 2);
  config.text.expert_intermediate = 128;  // one block of scales is not cut
  EXPECT_EQ(text_shard(config, 0, 1).expert_slices, 1);
}

TEST(TextShard, RefusesWhatDoesNotDivide) {
  ModelConfig config = dense_config();
  EXPECT_THROW(text_shard(config, 0, 3), Error);
  EXPECT_THROW(text_shard(config, 0, 16), Error);  // eight slices of the attention output
  config.text.intermediate = 6;                    // 3 pairs: one slice
  EXPECT_THROW(text_shard(config, 0, 2), Error);
}

}  // namespace
}  // namespace zoetrope
