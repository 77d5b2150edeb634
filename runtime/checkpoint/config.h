// config.json of a Qwen3-VL checkpoint as values: dense and MoE, the 4.57 layout of the rotary settings (rope_theta
// beside rope_scaling) and the 5.x layout (rope_parameters). Everything that the arithmetic relies on is checked here.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace zoetrope {

// Interleaved M-RoPE, with or without YaRN. Formulas: the rotary room builds the table, these are its numbers.
struct RopeConfig {
  double theta = 0;
  std::array<int, 3> mrope_section{};  // frequencies that turn with t, h, w; their sum is head_dim / 2
  bool yarn = false;
  double factor = 1;                    // as written in the file, never recomputed from the lengths
  std::int64_t original_positions = 0;  // YaRN only
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;         // correction bounds rounded to whole indices
  double attention_factor = 1;  // resolved: multiplies cos and sin; 1 without YaRN
};

struct TextConfig {
  std::int64_t hidden = 0;  // H
  int layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t intermediate = 0;           // of the dense MLP; 0 for MoE
  int experts = 0, experts_per_token = 0;  // 0 for dense
  std::int64_t expert_intermediate = 0;    // I; 0 for dense
  std::int64_t vocabulary = 0;             // V, unused rows included
  double rms_eps = 0;
  std::int64_t positions_max = 0;
  bool tied = false;  // text_config.tie_word_embeddings; the top-level field has no effect
  RopeConfig rope;

  bool moe() const { return experts > 0; }
  std::int64_t query_width() const { return std::int64_t{heads} * head_dim; }
  std::int64_t kv_width() const { return std::int64_t{kv_heads} * head_dim; }
};

struct VisionConfig {
  int depth = 0, hidden = 0, heads = 0, intermediate = 0;
  int patch = 16, temporal_patch = 2, merge = 2, channels = 3;
  int position_grid = 0;       // side of the square table of learned positions: 48
  std::vector<int> deepstack;  // vision block of each DeepStack merger, in the merger's order
  int out_hidden = 0;          // = text hidden

  int head_dim() const { return hidden / heads; }
  int patch_columns() const { return channels * temporal_patch * patch * patch; }  // 1536
  int merged_width() const { return hidden * merge * merge; }                      // 4D
};

struct ModelConfig {
  std::string architecture;  // "Qwen3VLForConditionalGeneration" or "Qwen3VLMoeForConditionalGeneration"
  std::string model_type;    // "qwen3_vl" or "qwen3_vl_moe"
  TextConfig text;
  VisionConfig vision;
  std::int32_t image_token = 0, video_token = 0, vision_start = 0, vision_end = 0;
  std::vector<std::int32_t> eos;  // eos_token_id of the configuration; generation_config.json may say otherwise
  bool fp8 = false;               // e4m3 weights with one fp32 scale per block of 128 x 128
};

constexpr std::int64_t kFp8Block = 128;  // side of a scale's block

// Error(kStartup) naming the field, what was found and what was expected.
ModelConfig read_model_config(const std::filesystem::path& folder);
// The same from a text; `name` is what messages call it. Does not look at any file.
ModelConfig parse_model_config(std::string_view text, const std::string& name);

}  // namespace zoetrope
