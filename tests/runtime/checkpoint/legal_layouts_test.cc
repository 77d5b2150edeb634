#include "runtime/checkpoint/legal_layouts.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

TEST(LegalLayouts, CanonicalSlices) {
  EXPECT_EQ(canonical_slices(4096, 128), 8);  // 32 heads
  EXPECT_EQ(canonical_slices(512, 128), 4);
  EXPECT_EQ(canonical_slices(3 * 128, 128), 1);
  EXPECT_EQ(canonical_slices(6 * 128, 128), 2);
  EXPECT_EQ(canonical_slices(25600, 2), 8);
  EXPECT_EQ(canonical_slices(320, 2), 8);
  EXPECT_EQ(canonical_slices(12, 2), 2);
  EXPECT_EQ(canonical_slices(2, 2), 1);
  EXPECT_EQ(canonical_slices(100, 128), 1);  // the unit does not divide k
  EXPECT_EQ(canonical_slices(768, 2, 2), 2);
  EXPECT_EQ(canonical_slices(1536, 128, 2), 2);
  EXPECT_EQ(canonical_slices(128, 128, 2), 1);
}

TEST(LegalLayouts, MatricesAndTheirUnits) {
  const ModelConfig dense = parsed(published_config("32B"));
  EXPECT_EQ(attention_output(dense).k, 8192);
  EXPECT_EQ(attention_output(dense).unit, 128);
  EXPECT_EQ(attention_output(dense).slices, 8);
  EXPECT_EQ(dense_down(dense).k, 25600);
  EXPECT_EQ(dense_down(dense).unit, 2);
  EXPECT_EQ(dense_down(dense).slices, 8);
  const ModelConfig fp8 = parsed(with_fp8(published_config("4B")));
  EXPECT_EQ(dense_down(fp8).unit, 128);
  EXPECT_EQ(dense_down(fp8).slices, 4);  // 9728 / 128 = 76
  const ModelConfig moe = parsed(published_config("30B-A3B"));
  EXPECT_EQ(expert_down(moe).slices, 2);
  EXPECT_FALSE(expert_down(moe).cut_by_tp);
  EXPECT_EQ(sliced_matrices(moe).size(), 2U);
}

TEST(LegalLayouts, OfThePublishedSizes) {
  for (const char* size : {"2B", "4B", "8B", "32B", "30B-A3B", "235B-A22B"}) {
    EXPECT_EQ(legal_tp(parsed(published_config(size))), (std::vector<int>{1, 2, 4, 8})) << size;
  }
  EXPECT_EQ(legal_tp(parsed(with_fp8(published_config("4B")))), (std::vector<int>{1, 2, 4}));
  EXPECT_EQ(legal_tp(parsed(with_fp8(published_config("235B-A22B")))), (std::vector<int>{1, 2, 4, 8}));
  EXPECT_EQ(legal_tp(read_model_config(golden_checkpoint("tiny-dense"))), (std::vector<int>{1, 2, 4}));
}

TEST(LegalLayouts, RefusalsPrintTheDivisionThatFails) {
  const ModelConfig config = parsed(published_config("30B-A3B"));
  EXPECT_FALSE(tp_refusal(config, 8).has_value());
  check_tp(config, 8);
  expect_parts(message_of([&] { check_tp(config, 16); }),
               {"tensor parallelism over 16 ranks",
                "8 (canonical slices) % 16 (tp) = 8 for the attention output, K = 4096 in units of 128",
                "a tp that divides 8", "choose tp from 1, 2, 4, 8"});
  expect_parts(message_of([&] { check_tp(config, 3); }), {"over 3 ranks", "found 3", "a power of two"});
  expect_parts(message_of([&] { check_tp(config, 0); }), {"over 0 ranks", "a power of two"});
  expect_parts(message_of([&] { check_tp(config, -4); }), {"over -4 ranks", "a power of two"});
  expect_parts(message_of([] { check_tp(parsed(with_fp8(published_config("4B"))), 8); }),
               {"4 (canonical slices) % 8 (tp) = 4 for the dense down, K = 9728 in units of 128"});
}

TEST(LegalLayouts, EveryStageHasALayer) {
  const ModelConfig config = parsed(published_config("2B"));
  check_pp(config, 1);
  check_pp(config, 28);
  expect_parts(message_of([&] { check_pp(config, 29); }),
               {"a pipeline of 29 stages", "28 layers for 29 stages", "--pp 28"});
  expect_parts(message_of([&] { check_pp(config, 0); }), {"a pipeline of 0 stages"});
}

TEST(LegalLayouts, KeyValueHeadsDivideOrAreDivided) {
  boost::json::object config = published_config("8B");
  config["text_config"].as_object()["num_attention_heads"] = 24;
  config["text_config"].as_object()["num_key_value_heads"] = 6;
  EXPECT_EQ(legal_tp(parsed(config)), (std::vector<int>{1, 2}));
  expect_parts(message_of([&] { check_tp(parsed(config), 4); }),
               {"6 key-value heads for 4 ranks", "a multiple of them"});
  config["text_config"].as_object()["num_key_value_heads"] = 2;
  EXPECT_EQ(legal_tp(parsed(config)), (std::vector<int>{1, 2, 4, 8}));
}

TEST(LegalLayouts, EveryRankHasTokensOfTheVocabulary) {
  ModelConfig config = parsed(published_config("8B"));
  config.text.vocabulary = 98;  // 14 slices of 7
  EXPECT_EQ(legal_tp(config), (std::vector<int>{1, 2, 4}));
  expect_parts(message_of([&] { check_tp(config, 8); }),
               {"98 tokens of vocabulary in 16 slices of 7", "begin at 98", "choose tp from 1, 2, 4"});
  config.text.vocabulary = 99;
  EXPECT_EQ(legal_tp(config), (std::vector<int>{1, 2, 4, 8}));
}

}  // namespace
}  // namespace zoetrope::test
