// Names, shapes and types of every tensor of a checkpoint. The loader asks for tensors by these functions, so what is
// checked at the start is what is read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/checkpoint/config.h"

namespace zoetrope {

namespace tensor_names {

inline constexpr std::string_view kTextPrefix = "model.language_model.";
inline constexpr std::string_view kVisionPrefix = "model.visual.";

// Text. H hidden, V vocabulary, I expert intermediate, E experts.
std::string embedding();                              // [V, H]
std::string final_norm();                             // [H]
std::string head();                                   // [V, H]; may be absent: then the embedding is the head
std::string layer(int layer, std::string_view rest);  // "model.language_model.layers.<layer>.<rest>"
std::string input_norm(int layer);                    // [H]
std::string post_attention_norm(int layer);           // [H]
std::string q_proj(int layer);                        // [heads * head_dim, H]
std::string k_proj(int layer);                        // [kv_heads * head_dim, H]
std::string v_proj(int layer);                        // [kv_heads * head_dim, H]
std::string o_proj(int layer);                        // [H, heads * head_dim]
std::string q_norm(int layer);                        // [head_dim]
std::string k_norm(int layer);                        // [head_dim]
std::string gate_proj(int layer);                     // [intermediate, H], dense
std::string up_proj(int layer);                       // [intermediate, H], dense
std::string down_proj(int layer);                     // [H, intermediate], dense
std::string router(int layer);                        // [E, H]
std::string experts_gate_up(int layer);               // [E, H, 2I], input-major; columns 0..I-1 gate, I..2I-1 up
std::string experts_down(int layer);                  // [E, I, H], input-major

// Vision. D hidden, Mi intermediate, O out_hidden. `part` is "weight" or "bias".
std::string vision_patch_embed(std::string_view part);                 // [D, 3, 2, 16, 16], [D]
std::string vision_positions();                                        // [grid * grid, D]
std::string vision_block(int block, std::string_view rest);            // "model.visual.blocks.<block>.<rest>"
std::string vision_norm(int block, int which, std::string_view part);  // which 1, 2: [D]
std::string vision_qkv(int block, std::string_view part);              // [3D, D], [3D]: all Q, all K, all V
std::string vision_proj(int block, std::string_view part);             // [D, D], [D]
std::string vision_fc1(int block, std::string_view part);              // [Mi, D], [Mi]
std::string vision_fc2(int block, std::string_view part);              // [D, Mi], [D]
// merger -1 is the main merger, K >= 0 the DeepStack merger of vision block deepstack[K].
inline constexpr int kMainMerger = -1;
std::string merger_norm(int merger, std::string_view part);  // [D] main, [4D] DeepStack
std::string merger_fc1(int merger, std::string_view part);   // [4D, 4D], [4D]
std::string merger_fc2(int merger, std::string_view part);   // [O, 4D], [O]

// The scales of an FP8 weight lie beside it: "<weight>_scale_inv".
std::string scale_of(std::string_view weight);

}  // namespace tensor_names

// Where a tensor's bytes are counted by `zoetrope inspect`.
enum class ModelPart { kEmbedding, kAttention, kMlp, kExperts, kRouter, kNorms, kHead, kVision };
std::string_view model_part_name(ModelPart part);

struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  ModelPart part = ModelPart::kNorms;
  bool optional = false;  // lm_head.weight: the embedding takes its place
  // What FP8 may hold: F8_E4M3 with fp32 scales of this shape under scale_of(name). Empty: BF16 only. A quantised
  // checkpoint may still store such a weight as BF16, then without scales.
  std::vector<std::int64_t> scale_shape;

  bool quantised() const { return !scale_shape.empty(); }
};

// Every tensor of the model: text first, layer by layer, then vision.
std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config);

}  // namespace zoetrope
