#include "runtime/checkpoint/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/checkpoint/config_fields.h"
#include "runtime/checkpoint/config_rope.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

using json::Fields;

// Bounds far beyond every published size; element counts of all tensors still fit in 63 bits.
constexpr std::int64_t kWidthMax = std::int64_t{1} << 20;
constexpr std::int64_t kCountMax = 65536;
constexpr std::int64_t kDepthMax = 4096;
constexpr std::int64_t kVocabularyMax = std::int64_t{1} << 24;
constexpr std::int64_t kPositionsMax = std::int64_t{1} << 40;

struct Architecture {
  std::string_view name, model_type;
  bool moe;
};
constexpr Architecture kArchitectures[] = {{"Qwen3VLForConditionalGeneration", "qwen3_vl", false},
                                           {"Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", true}};

const Architecture& architecture_of(const Fields& top) {
  const json::Array& names = top.array("architectures");
  const std::string expected = fmt::format("[\"{}\"] or [\"{}\"]", kArchitectures[0].name, kArchitectures[1].name);
  if (names.size() != 1 || !names[0].is_string()) {
    top.refuse("architectures", fmt::format("a list of {}", names.size()), expected, "name a Qwen3-VL checkpoint");
  }
  const std::string_view name(names[0].get_string());
  for (const Architecture& known : kArchitectures) {
    if (known.name != name) {
      continue;
    }
    if (const std::string type = top.text("model_type"); type != known.model_type) {
      top.refuse("model_type", zoetrope::quoted(type),
                 fmt::format("'{}', as architectures says {}", known.model_type, name), "correct one of the two");
    }
    return known;
  }
  top.refuse("architectures", zoetrope::quoted(name), expected,
             "name a Qwen3-VL checkpoint; other architectures are not implemented");
}

int small(const Fields& fields, std::string_view key, std::int64_t at_most) {
  return static_cast<int>(fields.integer(key, 1, at_most));
}

void read_experts(const Fields& fields, TextConfig& text) {
  text.experts = small(fields, "num_experts", kCountMax);
  text.experts_per_token = small(fields, "num_experts_per_tok", text.experts);
  text.expert_intermediate = fields.integer("moe_intermediate_size", 1, kWidthMax);
  require_flag(fields, "norm_topk_prob", true);
  if (fields.integer_or("decoder_sparse_step", 1, 0, kDepthMax) != 1) {
    fields.refuse("decoder_sparse_step", json::described(*fields.find("decoder_sparse_step")),
                  "1 (every layer has experts)", "mixed layers are not implemented");
  }
  if (fields.has("mlp_only_layers") && !fields.array("mlp_only_layers").empty()) {
    fields.refuse("mlp_only_layers", json::described(*fields.find("mlp_only_layers")),
                  "an empty list (every layer has experts)", "mixed layers are not implemented");
  }
}

TextConfig read_text(const Fields& fields, bool moe) {
  TextConfig text;
  text.hidden = fields.integer("hidden_size", 1, kWidthMax);
  text.layers = small(fields, "num_hidden_layers", kDepthMax);
  text.heads = small(fields, "num_attention_heads", kCountMax);
  text.kv_heads = small(fields, "num_key_value_heads", text.heads);
  require_divides(fields, "num_attention_heads", text.heads, text.kv_heads, "number of key-value heads");
  text.head_dim = small(fields, "head_dim", 4096);  // not hidden / heads: 4B, 30B and others differ
  require_divides(fields, "head_dim", text.head_dim, 2, "two halves that rotary pairs come from");
  if (moe) {
    read_experts(fields, text);
  } else {
    text.intermediate = fields.integer("intermediate_size", 1, kWidthMax);
  }
  text.vocabulary = fields.integer("vocab_size", 1, kVocabularyMax);
  text.rms_eps = fields.number("rms_norm_eps");
  if (!(text.rms_eps > 0 && text.rms_eps < 1)) {
    fields.refuse("rms_norm_eps", fmt::format("{}", text.rms_eps), "a number between 0 and 1",
                  "correct the configuration");
  }
  text.positions_max = fields.integer("max_position_embeddings", 1, kPositionsMax);
  text.tied = fields.boolean_or("tie_word_embeddings", false);
  require_text(fields, "hidden_act", "silu");
  require_flag(fields, "attention_bias", false);
  text.rope = read_rope_config(fields, text.head_dim, text.positions_max);
  return text;
}

int position_grid_of(const Fields& fields) {
  const std::int64_t positions = fields.integer("num_position_embeddings", 1, kWidthMax);
  const auto side = static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(positions))));
  if (side * side != positions) {
    fields.refuse("num_position_embeddings", fmt::format("{}", positions),
                  "a square number (a table of N x N positions)", "correct the configuration");
  }
  return static_cast<int>(side);
}

VisionConfig read_vision(const Fields& fields, const TextConfig& text) {
  VisionConfig vision;
  vision.depth = small(fields, "depth", kDepthMax);
  vision.hidden = small(fields, "hidden_size", kWidthMax / 8);
  vision.heads = small(fields, "num_heads", kCountMax);
  require_divides(fields, "hidden_size", vision.hidden, vision.heads, "number of heads");
  if (vision.head_dim() % 4 != 0) {
    fields.refuse("hidden_size", fmt::format("{} for {} heads of {}", vision.hidden, vision.heads, vision.head_dim()),
                  "heads of a multiple of 4 (rotary pairs for rows and for columns)", "correct the configuration");
  }
  vision.intermediate = small(fields, "intermediate_size", kWidthMax);
  require_number(fields, "patch_size", vision.patch);
  require_number(fields, "temporal_patch_size", vision.temporal_patch);
  require_number(fields, "spatial_merge_size", vision.merge);
  require_number(fields, "in_channels", vision.channels);
  require_text(fields, "hidden_act", "gelu_pytorch_tanh");
  vision.position_grid = position_grid_of(fields);
  vision.out_hidden = small(fields, "out_hidden_size", kWidthMax);
  if (vision.out_hidden != text.hidden) {
    fields.refuse("out_hidden_size", fmt::format("{}", vision.out_hidden),
                  fmt::format("{}, the hidden_size of text_config", text.hidden), "correct one of the two");
  }
  for (const json::Value& index : fields.array("deepstack_visual_indexes")) {
    if (!index.is_int64() || index.get_int64() < 0 || index.get_int64() >= vision.depth) {
      fields.refuse("deepstack_visual_indexes", json::described(index),
                    fmt::format("vision blocks 0 to {}", vision.depth - 1), "correct the configuration");
    }
    const int block = static_cast<int>(index.get_int64());
    if (std::find(vision.deepstack.begin(), vision.deepstack.end(), block) != vision.deepstack.end()) {
      fields.refuse("deepstack_visual_indexes", fmt::format("block {} twice", block), "each block once",
                    "correct the configuration");
    }
    vision.deepstack.push_back(block);
  }
  if (static_cast<int>(vision.deepstack.size()) > text.layers) {
    fields.refuse("deepstack_visual_indexes", fmt::format("{} blocks", vision.deepstack.size()),
                  fmt::format("at most {}: one decoder layer takes each", text.layers), "correct the configuration");
  }
  return vision;
}

void read_tokens(const Fields& top, const Fields& text, ModelConfig& config) {
  const std::int64_t last = config.text.vocabulary - 1;
  const auto token = [&](std::string_view key) { return static_cast<std::int32_t>(top.integer(key, 0, last)); };
  config.image_token = token("image_token_id");
  config.video_token = token("video_token_id");
  config.vision_start = token("vision_start_token_id");
  config.vision_end = token("vision_end_token_id");
  const std::int32_t all[] = {config.image_token, config.video_token, config.vision_start, config.vision_end};
  for (std::size_t i = 0; i < 4; ++i) {
    if (std::find(all, all + i, all[i]) != all + i) {
      top.refuse("image_token_id", fmt::format("token {} in two roles", all[i]),
                 "four different ids for image, video, vision start and vision end", "correct the configuration");
    }
  }
  config.eos = token_ids(text.has("eos_token_id") ? text : top, "eos_token_id", config.text.vocabulary);
}

void require_block_multiple(const Fields& text, std::string_view key, std::int64_t size) {
  require_divides(text, key, size, kFp8Block, "side of a block of FP8 scales");
}

bool read_quantisation(const Fields& top, const Fields& text, const TextConfig& sizes) {
  if (!top.has("quantization_config")) {
    return false;
  }
  const Fields fields = top.child("quantization_config");
  if (const std::string method = fields.text("quant_method"); method != "fp8") {
    fields.refuse("quant_method", zoetrope::quoted(method), "'fp8' (block-scaled e4m3), or no quantization_config",
                  "use the BF16 or the FP8 checkpoint as published");
  }
  require_text(fields, "fmt", "e4m3");
  require_text(fields, "activation_scheme", "dynamic");
  const json::Array& block = fields.array("weight_block_size");
  if (block.size() != 2 || block[0] != json::Value(kFp8Block) || block[1] != json::Value(kFp8Block)) {
    fields.refuse("weight_block_size", boost::json::serialize(block), "[128, 128]", "other blocks are not implemented");
  }
  require_block_multiple(text, "hidden_size", sizes.hidden);
  require_block_multiple(text, "num_attention_heads x head_dim", sizes.query_width());
  require_block_multiple(text, "num_key_value_heads x head_dim", sizes.kv_width());
  if (sizes.moe()) {
    require_block_multiple(text, "moe_intermediate_size", sizes.expert_intermediate);
  } else {
    require_block_multiple(text, "intermediate_size", sizes.intermediate);
  }
  return true;
}

}  // namespace

ModelConfig parse_model_config(std::string_view text, const std::string& name) {
  if (const std::string other = looks_like(text); !other.empty() && !text.starts_with('{')) {
    refuse(Radius::kStartup, {name, other, "the checkpoint's configuration as JSON", "fetch the file again"});
  }
  const json::Source source{name, Radius::kStartup};
  const json::Value value = json::parse(text, source);
  const Fields top(value, source);
  const Architecture& architecture = architecture_of(top);
  const Fields text_fields = top.child("text_config");
  ModelConfig config;
  config.architecture = architecture.name;
  config.model_type = architecture.model_type;
  config.text = read_text(text_fields, architecture.moe);
  config.vision = read_vision(top.child("vision_config"), config.text);
  read_tokens(top, text_fields, config);
  config.fp8 = read_quantisation(top, text_fields, config.text);
  return config;
}

ModelConfig read_model_config(const std::filesystem::path& folder) {
  check_checkpoint_folder(folder);
  const std::filesystem::path file = file_in(folder, "config.json");
  return parse_model_config(read_text_file(file), file.string());
}

}  // namespace zoetrope
