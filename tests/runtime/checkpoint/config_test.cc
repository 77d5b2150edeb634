#include "runtime/checkpoint/config.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

using boost::json::object;

TEST(Config, ReadsThePublished30B) {
  const ModelConfig config = parse_model_config(read_text(published("config.json")), "config.json");
  EXPECT_EQ(config.architecture, "Qwen3VLMoeForConditionalGeneration");
  EXPECT_EQ(config.model_type, "qwen3_vl_moe");
  EXPECT_EQ(config.text.hidden, 2048);
  EXPECT_EQ(config.text.layers, 48);
  EXPECT_EQ(config.text.heads, 32);
  EXPECT_EQ(config.text.kv_heads, 4);
  EXPECT_EQ(config.text.head_dim, 128);
  EXPECT_EQ(config.text.intermediate, 0);
  EXPECT_EQ(config.text.experts, 128);
  EXPECT_EQ(config.text.experts_per_token, 8);
  EXPECT_EQ(config.text.expert_intermediate, 768);
  EXPECT_TRUE(config.text.moe());
  EXPECT_EQ(config.text.vocabulary, 151936);
  EXPECT_EQ(config.text.rms_eps, 1e-6);
  EXPECT_EQ(config.text.positions_max, 262144);
  EXPECT_FALSE(config.text.tied);
  EXPECT_EQ(config.text.rope.theta, 5e6);
  EXPECT_EQ(config.text.rope.mrope_section, (std::array<int, 3>{24, 20, 20}));
  EXPECT_FALSE(config.text.rope.yarn);
  EXPECT_EQ(config.text.rope.attention_factor, 1.0);
  EXPECT_EQ(config.vision.depth, 27);
  EXPECT_EQ(config.vision.hidden, 1152);
  EXPECT_EQ(config.vision.heads, 16);
  EXPECT_EQ(config.vision.head_dim(), 72);
  EXPECT_EQ(config.vision.intermediate, 4304);
  EXPECT_EQ(config.vision.position_grid, 48);
  EXPECT_EQ(config.vision.patch_columns(), 1536);
  EXPECT_EQ(config.vision.deepstack, (std::vector<int>{8, 16, 24}));
  EXPECT_EQ(config.vision.out_hidden, 2048);
  EXPECT_EQ(config.image_token, 151655);
  EXPECT_EQ(config.video_token, 151656);
  EXPECT_EQ(config.vision_start, 151652);
  EXPECT_EQ(config.vision_end, 151653);
  EXPECT_EQ(config.eos, (std::vector<std::int32_t>{151645}));
  EXPECT_FALSE(config.fp8);
  EXPECT_TRUE(parse_model_config(read_text(published("config_fp8.json")), "config.json").fp8);
}

TEST(Config, ReadsTheGoldens) {
  const ModelConfig dense = read_model_config(golden_checkpoint("tiny-dense"));
  EXPECT_FALSE(dense.text.moe());
  EXPECT_EQ(dense.text.intermediate, 320);
  EXPECT_TRUE(dense.text.tied);
  const ModelConfig yarn = read_model_config(golden_checkpoint("tiny-moe-yarn"));
  EXPECT_TRUE(yarn.text.rope.yarn);
  EXPECT_EQ(yarn.text.rope.factor, 3.0);
  EXPECT_EQ(yarn.text.rope.original_positions, 262144);
  EXPECT_EQ(yarn.text.positions_max, 1000000);
  EXPECT_TRUE(read_model_config(golden_checkpoint("tiny-moe-fp8")).fp8);
  EXPECT_EQ(read_model_config(golden_checkpoint("tiny-moe")).vision.deepstack, (std::vector<int>{1, 2, 4}));
}

// Only the field inside text_config rules, and it is false when absent.
TEST(Config, TheTopLevelTieHasNoEffect) {
  object config = published_config("8B");
  config["tie_word_embeddings"] = true;
  EXPECT_FALSE(parsed(config).text.tied);
  config["text_config"].as_object()["tie_word_embeddings"] = true;
  config["tie_word_embeddings"] = false;
  EXPECT_TRUE(parsed(config).text.tied);
}

struct Mistake {
  const char* pointer;             // JSON pointer of the field
  boost::json::value value;        // null: removed
  std::vector<std::string> parts;  // of the message
};

TEST(Config, RefusesWhatContradictsOrIsNotImplemented) {
  const std::vector<Mistake> mistakes = {
      {"/architectures",
       {"Qwen2_5_VLForConditionalGeneration"},
       {"architectures", "'Qwen2_5_VLForConditionalGeneration'", "Qwen3VLMoeForConditionalGeneration"}},
      {"/architectures", boost::json::array{}, {"architectures", "a list of 0"}},
      {"/model_type", "qwen3_vl", {"model_type", "'qwen3_vl'", "'qwen3_vl_moe'"}},
      {"/text_config/hidden_size", 0, {"text_config.hidden_size", "the number 0"}},
      {"/text_config/hidden_size", std::int64_t{1} << 62, {"text_config.hidden_size", "4611686018427387904"}},
      {"/text_config/hidden_size", "2048", {"text_config.hidden_size", "the text '2048'"}},
      {"/text_config/head_dim", nullptr, {"text_config.head_dim", "missing"}},
      {"/text_config/head_dim", 127, {"text_config.head_dim", "127 % 2 = 1"}},
      {"/text_config/num_attention_heads",
       30,
       {"text_config.num_attention_heads", "30 % 4 = 2", "a multiple of 4", "key-value heads"}},
      {"/text_config/num_experts_per_tok", 129, {"text_config.num_experts_per_tok", "129", "from 1 to 128"}},
      {"/text_config/decoder_sparse_step", 2, {"text_config.decoder_sparse_step", "the number 2"}},
      {"/text_config/mlp_only_layers", {0}, {"text_config.mlp_only_layers", "a list of 1"}},
      {"/text_config/norm_topk_prob", false, {"text_config.norm_topk_prob", "found false", "expected true"}},
      {"/text_config/attention_bias", true, {"text_config.attention_bias", "found true", "expected false"}},
      {"/text_config/hidden_act", "gelu", {"text_config.hidden_act", "'gelu'", "'silu'"}},
      {"/text_config/rms_norm_eps", 0, {"text_config.rms_norm_eps", "found 0"}},
      {"/text_config/rope_theta", nullptr, {"text_config.rope_theta", "missing"}},
      {"/vision_config/num_heads", 7, {"vision_config.hidden_size", "1152 % 7 = 4"}},
      {"/vision_config/num_heads", 64, {"vision_config.hidden_size", "64 heads of 18", "multiple of 4"}},
      {"/vision_config/num_position_embeddings", 2300, {"vision_config.num_position_embeddings", "2300", "square"}},
      {"/vision_config/patch_size", 14, {"vision_config.patch_size", "found 14", "expected 16"}},
      {"/vision_config/spatial_merge_size", 4, {"vision_config.spatial_merge_size", "found 4", "expected 2"}},
      {"/vision_config/out_hidden_size",
       4096,
       {"vision_config.out_hidden_size", "4096", "2048, the hidden_size of text_config"}},
      {"/vision_config/deepstack_visual_indexes",
       {8, 16, 27},
       {"deepstack_visual_indexes", "27", "vision blocks 0 to 26"}},
      {"/vision_config/deepstack_visual_indexes", {8, 8}, {"deepstack_visual_indexes", "block 8 twice"}},
      {"/vision_config/hidden_act", "silu", {"vision_config.hidden_act", "'silu'", "'gelu_pytorch_tanh'"}},
      {"/image_token_id", 151936, {"image_token_id", "151936", "from 0 to 151935"}},
      {"/image_token_id", 151656, {"image_token_id", "token 151656 in two roles"}},
      {"/text_config/eos_token_id", 200000, {"text_config.eos_token_id", "200000"}},
      {"/quantization_config", {{"quant_method", "awq"}}, {"quantization_config.quant_method", "'awq'", "'fp8'"}},
  };
  for (const Mistake& mistake : mistakes) {
    boost::json::value config = published_config("30B-A3B");
    const std::string pointer = mistake.pointer;
    const auto slash = pointer.rfind('/');
    boost::json::object& owner = config.at_pointer(pointer.substr(0, slash)).as_object();
    if (mistake.value.is_null()) {
      owner.erase(pointer.substr(slash + 1));
    } else {
      owner[pointer.substr(slash + 1)] = mistake.value;
    }
    SCOPED_TRACE(mistake.pointer);
    auto parts = mistake.parts;
    parts.insert(parts.begin(), "config.json: ");
    expect_parts(message_of([&] { parsed(config.as_object()); }), parts);
  }
}

TEST(Config, RefusesFp8SizesThatDoNotDivide) {
  object config = with_fp8(published_config("30B-A3B"));
  EXPECT_TRUE(parsed(config).fp8);
  config["text_config"].as_object()["moe_intermediate_size"] = 800;
  expect_parts(message_of([&] { parsed(config); }),
               {"text_config.moe_intermediate_size", "800 % 128 = 32", "a multiple of 128"});
  config = with_fp8(published_config("8B"));
  config["text_config"].as_object()["intermediate_size"] = 12290;
  expect_parts(message_of([&] { parsed(config); }), {"text_config.intermediate_size", "12290 % 128 = 2"});
  config = with_fp8(published_config("8B"));
  config["quantization_config"].as_object()["weight_block_size"] = {64, 128};
  expect_parts(message_of([&] { parsed(config); }), {"weight_block_size", "[64,128]", "[128, 128]"});
}

TEST(Config, RefusesWhatIsNoConfiguration) {
  expect_parts(message_of([] { parse_model_config("version https://git-lfs.github.com/spec/v1\noid", "config.json"); }),
               {"config.json", "Git LFS pointer", "git lfs pull"});
  expect_parts(message_of([] { parse_model_config("{\"a\": 1,", "config.json"); }),
               {"config.json: not valid JSON at line 1"});
  expect_parts(message_of([] { parse_model_config("[]", "config.json"); }),
               {"config.json", "a list of 0", "an object"});
  expect_parts(message_of([] { parse_model_config("{\"a\": 1, \"a\": 2}", "config.json"); }), {"'a' stands twice"});
}

}  // namespace
}  // namespace zoetrope::test
