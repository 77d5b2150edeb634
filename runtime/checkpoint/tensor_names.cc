#include "runtime/checkpoint/tensor_names.h"

#include <fmt/format.h>

#include "monitoring/check.h"

namespace zoetrope {
namespace tensor_names {

std::string embedding() { return fmt::format("{}embed_tokens.weight", kTextPrefix); }
std::string final_norm() { return fmt::format("{}norm.weight", kTextPrefix); }
std::string head() { return "lm_head.weight"; }
std::string layer(int layer, std::string_view rest) { return fmt::format("{}layers.{}.{}", kTextPrefix, layer, rest); }
std::string input_norm(int layer_) { return layer(layer_, "input_layernorm.weight"); }
std::string post_attention_norm(int layer_) { return layer(layer_, "post_attention_layernorm.weight"); }
std::string q_proj(int layer_) { return layer(layer_, "self_attn.q_proj.weight"); }
std::string k_proj(int layer_) { return layer(layer_, "self_attn.k_proj.weight"); }
std::string v_proj(int layer_) { return layer(layer_, "self_attn.v_proj.weight"); }
std::string o_proj(int layer_) { return layer(layer_, "self_attn.o_proj.weight"); }
std::string q_norm(int layer_) { return layer(layer_, "self_attn.q_norm.weight"); }
std::string k_norm(int layer_) { return layer(layer_, "self_attn.k_norm.weight"); }
std::string gate_proj(int layer_) { return layer(layer_, "mlp.gate_proj.weight"); }
std::string up_proj(int layer_) { return layer(layer_, "mlp.up_proj.weight"); }
std::string down_proj(int layer_) { return layer(layer_, "mlp.down_proj.weight"); }
std::string router(int layer_) { return layer(layer_, "mlp.gate.weight"); }
std::string experts_gate_up(int layer_) { return layer(layer_, "mlp.experts.gate_up_proj"); }
std::string experts_down(int layer_) { return layer(layer_, "mlp.experts.down_proj"); }

std::string vision_patch_embed(std::string_view part) {
  return fmt::format("{}patch_embed.proj.{}", kVisionPrefix, part);
}
std::string vision_positions() { return fmt::format("{}pos_embed.weight", kVisionPrefix); }
std::string vision_block(int block, std::string_view rest) {
  return fmt::format("{}blocks.{}.{}", kVisionPrefix, block, rest);
}
std::string vision_norm(int block, int which, std::string_view part) {
  check(which == 1 || which == 2, "a vision block has norm1 and norm2");
  return vision_block(block, fmt::format("norm{}.{}", which, part));
}
std::string vision_qkv(int block, std::string_view part) {
  return vision_block(block, fmt::format("attn.qkv.{}", part));
}
std::string vision_proj(int block, std::string_view part) {
  return vision_block(block, fmt::format("attn.proj.{}", part));
}
std::string vision_fc1(int block, std::string_view part) {
  return vision_block(block, fmt::format("mlp.linear_fc1.{}", part));
}
std::string vision_fc2(int block, std::string_view part) {
  return vision_block(block, fmt::format("mlp.linear_fc2.{}", part));
}

namespace {

std::string merger_part(int merger, std::string_view rest, std::string_view part) {
  return merger == kMainMerger ? fmt::format("{}merger.{}.{}", kVisionPrefix, rest, part)
                               : fmt::format("{}deepstack_merger_list.{}.{}.{}", kVisionPrefix, merger, rest, part);
}

}  // namespace

std::string merger_norm(int merger, std::string_view part) { return merger_part(merger, "norm", part); }
std::string merger_fc1(int merger, std::string_view part) { return merger_part(merger, "linear_fc1", part); }
std::string merger_fc2(int merger, std::string_view part) { return merger_part(merger, "linear_fc2", part); }

std::string scale_of(std::string_view weight) { return fmt::format("{}_scale_inv", weight); }

}  // namespace tensor_names

std::string_view model_part_name(ModelPart part) {
  switch (part) {
    case ModelPart::kEmbedding:
      return "embedding";
    case ModelPart::kAttention:
      return "attention";
    case ModelPart::kMlp:
      return "mlp";
    case ModelPart::kExperts:
      return "experts";
    case ModelPart::kRouter:
      return "router";
    case ModelPart::kNorms:
      return "norms";
    case ModelPart::kHead:
      return "head";
    case ModelPart::kVision:
      return "vision";
  }
  check(false, "a part of the model has a name");
  return "";
}

namespace {

using Shape = std::vector<std::int64_t>;

class List {
 public:
  explicit List(const ModelConfig& config) : fp8_(config.fp8) {}

  void add(std::string name, Shape shape, ModelPart part) {
    all_.push_back({std::move(name), std::move(shape), part, false, {}});
  }
  void add_optional(std::string name, Shape shape, ModelPart part) {
    all_.push_back({std::move(name), std::move(shape), part, true, {}});
  }
  // A weight that FP8 checkpoints quantise: one scale per block of the last two axes.
  void add_linear(std::string name, Shape shape, ModelPart part) {
    Shape scales;
    if (fp8_) {
      scales = shape;
      for (std::size_t axis = shape.size() - 2; axis < shape.size(); ++axis) {
        scales[axis] = div_ceil(shape[axis], kFp8Block);
      }
    }
    all_.push_back({std::move(name), std::move(shape), part, false, std::move(scales)});
  }
  std::vector<ExpectedTensor> take() { return std::move(all_); }

 private:
  bool fp8_;
  std::vector<ExpectedTensor> all_;
};

void add_text(const TextConfig& text, List& list) {
  using namespace tensor_names;
  const std::int64_t hidden = text.hidden;
  list.add(embedding(), {text.vocabulary, hidden}, ModelPart::kEmbedding);
  for (int n = 0; n < text.layers; ++n) {
    list.add(input_norm(n), {hidden}, ModelPart::kNorms);
    list.add_linear(q_proj(n), {text.query_width(), hidden}, ModelPart::kAttention);
    list.add_linear(k_proj(n), {text.kv_width(), hidden}, ModelPart::kAttention);
    list.add_linear(v_proj(n), {text.kv_width(), hidden}, ModelPart::kAttention);
    list.add_linear(o_proj(n), {hidden, text.query_width()}, ModelPart::kAttention);
    list.add(q_norm(n), {text.head_dim}, ModelPart::kNorms);
    list.add(k_norm(n), {text.head_dim}, ModelPart::kNorms);
    list.add(post_attention_norm(n), {hidden}, ModelPart::kNorms);
    if (text.moe()) {
      list.add(router(n), {text.experts, hidden}, ModelPart::kRouter);
      list.add_linear(experts_gate_up(n), {text.experts, hidden, 2 * text.expert_intermediate}, ModelPart::kExperts);
      list.add_linear(experts_down(n), {text.experts, text.expert_intermediate, hidden}, ModelPart::kExperts);
    } else {
      list.add_linear(gate_proj(n), {text.intermediate, hidden}, ModelPart::kMlp);
      list.add_linear(up_proj(n), {text.intermediate, hidden}, ModelPart::kMlp);
      list.add_linear(down_proj(n), {hidden, text.intermediate}, ModelPart::kMlp);
    }
  }
  list.add(final_norm(), {hidden}, ModelPart::kNorms);
  list.add_optional(head(), {text.vocabulary, hidden}, ModelPart::kHead);
}

void add_vision_linear(std::string (*name)(int, std::string_view), int index, std::int64_t out, std::int64_t in,
                       List& list) {
  list.add(name(index, "weight"), {out, in}, ModelPart::kVision);
  list.add(name(index, "bias"), {out}, ModelPart::kVision);
}

void add_vision(const VisionConfig& vision, List& list) {
  using namespace tensor_names;
  const std::int64_t hidden = vision.hidden;
  const std::int64_t merged = vision.merged_width();
  list.add(vision_patch_embed("weight"), {hidden, vision.channels, vision.temporal_patch, vision.patch, vision.patch},
           ModelPart::kVision);
  list.add(vision_patch_embed("bias"), {hidden}, ModelPart::kVision);
  list.add(vision_positions(), {std::int64_t{vision.position_grid} * vision.position_grid, hidden}, ModelPart::kVision);
  for (int block = 0; block < vision.depth; ++block) {
    for (const int which : {1, 2}) {
      list.add(vision_norm(block, which, "weight"), {hidden}, ModelPart::kVision);
      list.add(vision_norm(block, which, "bias"), {hidden}, ModelPart::kVision);
    }
    add_vision_linear(vision_qkv, block, 3 * hidden, hidden, list);
    add_vision_linear(vision_proj, block, hidden, hidden, list);
    add_vision_linear(vision_fc1, block, vision.intermediate, hidden, list);
    add_vision_linear(vision_fc2, block, hidden, vision.intermediate, list);
  }
  for (int merger = kMainMerger; merger < static_cast<int>(vision.deepstack.size()); ++merger) {
    const std::int64_t width = merger == kMainMerger ? hidden : merged;  // the norm comes before or after the shuffle
    list.add(merger_norm(merger, "weight"), {width}, ModelPart::kVision);
    list.add(merger_norm(merger, "bias"), {width}, ModelPart::kVision);
    add_vision_linear(merger_fc1, merger, merged, merged, list);
    add_vision_linear(merger_fc2, merger, vision.out_hidden, merged, list);
  }
}

}  // namespace

std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config) {
  List list(config);
  add_text(config.text, list);
  add_vision(config.vision, list);
  return list.take();
}

}  // namespace zoetrope
