#include "runtime/model/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/checkpoint/tensor_names.h"

namespace zoetrope {
namespace {

namespace names = tensor_names;

WeightType weight_type(const StoredTensor& tensor) {
  check(tensor.type == StoredType::kBF16 || tensor.type == StoredType::kF8E4M3,
        "a matrix is stored as BF16 or F8_E4M3");
  return tensor.type == StoredType::kBF16 ? WeightType::kBf16 : WeightType::kF8E4M3;
}

// A Linear: [outputs, inputs...], scales [outputs / 128, inputs / 128].
StoredMatrix linear_matrix(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  StoredMatrix stored{.type = weight_type(tensor),
                      .data = tensor.data,
                      .output_stride = tensor.elements() / tensor.shape.front(),
                      .input_stride = 1};
  if (stored.type == WeightType::kF8E4M3) {
    const StoredTensor& scales = checkpoint.tensor(names::scale_of(tensor.name));
    stored.scales = scales.as<float>();
    stored.scale_output_stride = scales.shape.at(1);
    stored.scale_input_stride = 1;
  }
  return stored;
}

StoredMatrix linear_matrix(const Checkpoint& checkpoint, const std::string& name) {
  return linear_matrix(checkpoint, checkpoint.tensor(name));
}

// Expert `expert` of a stack [E, inputs, outputs], scales [E, inputs / 128, outputs / 128].
StoredMatrix expert_matrix(const Checkpoint& checkpoint, const std::string& name, int expert) {
  const StoredTensor& tensor = checkpoint.tensor(name);
  const std::int64_t bytes_per_expert = static_cast<std::int64_t>(tensor.bytes) / tensor.shape.at(0);
  StoredMatrix stored{.type = weight_type(tensor),
                      .data = tensor.data + expert * bytes_per_expert,
                      .output_stride = 1,
                      .input_stride = tensor.shape.at(2)};
  if (stored.type == WeightType::kF8E4M3) {
    const StoredTensor& scales = checkpoint.tensor(names::scale_of(name));
    stored.scales = scales.as<float>() + expert * scales.shape.at(1) * scales.shape.at(2);
    stored.scale_output_stride = 1;
    stored.scale_input_stride = scales.shape.at(2);
  }
  return stored;
}

void require_one_type(std::initializer_list<const StoredMatrix*> matrices, int layer, const char* which) {
  for (const StoredMatrix* matrix : matrices) {
    if (matrix->type != (*matrices.begin())->type) {
      refuse(Radius::kStartup, {.what = fmt::format("{} of layer {}", which, layer),
                                .found = "BF16 and F8_E4M3 side by side",
                                .expected = "one type, because they are multiplied together",
                                .remedy = "convert the checkpoint so that they share a type"});
    }
  }
}

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const Stage& stage, const TextShard& shard,
         const std::vector<std::vector<int>>& experts, Home text_home, WeightPacker& packer)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        stage_(stage),
        shard_(shard),
        experts_(experts),
        text_home_(text_home),
        packer_(packer) {}

  void text(TextWeights& weights) {
    const TextConfig& c = config_.text;
    if (stage_.embeds) {
      const StoredTensor& embedding = checkpoint_.tensor(names::embedding());
      weights.embedding = {embedding.as<Bf16>(), c.vocabulary, c.hidden};
    }
    const std::int64_t q = round_up<std::int64_t>(shard_.heads.count() * c.head_dim, 32);
    const std::int64_t kv = round_up<std::int64_t>(shard_.kv_heads.count() * c.head_dim, 32);
    weights.columns = {.q = 0, .k = q, .v = q + kv, .total = q + 2 * kv};
    weights.layers.resize(static_cast<std::size_t>(stage_.layers.count()));
    for (std::int64_t layer = stage_.layers.first; layer < stage_.layers.end; ++layer) {
      text_layer(weights.layers[static_cast<std::size_t>(layer - stage_.layers.first)], static_cast<int>(layer));
    }
    if (stage_.has_head) {
      vector(weights.norm, names::final_norm());
      packer_.plain(weights.head, text_home_,
                    part_of(linear_matrix(checkpoint_, checkpoint_.head()), shard_.vocabulary.first, 0),
                    shard_.vocabulary.count(), c.hidden, 1);
    }
  }

  void vision(VisionWeights& weights) {
    const VisionConfig& c = config_.vision;
    linear(weights.patch_embed, names::vision_patch_embed("weight"), names::vision_patch_embed("bias"));
    const StoredTensor& positions = checkpoint_.tensor(names::vision_positions());
    check(positions.type == StoredType::kBF16, "the position table is stored as BF16");
    packer_.table(weights.positions, Home::kHost, positions.shape.at(0), positions.shape.at(1),
                  [&positions](Bf16* out) { std::memcpy(out, positions.data, positions.bytes); });
    weights.blocks.resize(static_cast<std::size_t>(c.depth));
    for (int index = 0; index < c.depth; ++index) {
      VisionBlockWeights& block = weights.blocks[static_cast<std::size_t>(index)];
      norm(block.norm1, names::vision_norm(index, 1, "weight"), names::vision_norm(index, 1, "bias"));
      linear(block.qkv, names::vision_qkv(index, "weight"), names::vision_qkv(index, "bias"));
      linear(block.proj, names::vision_proj(index, "weight"), names::vision_proj(index, "bias"));
      norm(block.norm2, names::vision_norm(index, 2, "weight"), names::vision_norm(index, 2, "bias"));
      linear(block.fc1, names::vision_fc1(index, "weight"), names::vision_fc1(index, "bias"));
      linear(block.fc2, names::vision_fc2(index, "weight"), names::vision_fc2(index, "bias"));
    }
    merger(weights.merger, names::kMainMerger);
    weights.deepstack.resize(c.deepstack.size());
    for (std::size_t k = 0; k < c.deepstack.size(); ++k) {
      merger(weights.deepstack[k], static_cast<int>(k));
    }
  }

 private:
  void text_layer(TextLayerWeights& weights, int layer) {
    const TextConfig& c = config_.text;
    vector(weights.input_norm, names::input_norm(layer));
    const std::int64_t d = c.head_dim;
    const StoredMatrix q = part_of(linear_matrix(checkpoint_, names::q_proj(layer)), shard_.heads.first * d, 0);
    const StoredMatrix k = part_of(linear_matrix(checkpoint_, names::k_proj(layer)), shard_.kv_heads.first * d, 0);
    const StoredMatrix v = part_of(linear_matrix(checkpoint_, names::v_proj(layer)), shard_.kv_heads.first * d, 0);
    require_one_type({&q, &k, &v}, layer, "q_proj, k_proj and v_proj");
    packer_.stacked(weights.qkv, text_home_,
                    std::array<WeightPacker::Part, 3>{WeightPacker::Part{q, shard_.heads.count() * d},
                                                      WeightPacker::Part{k, shard_.kv_heads.count() * d},
                                                      WeightPacker::Part{v, shard_.kv_heads.count() * d}},
                    c.hidden);
    vector(weights.q_norm, names::q_norm(layer));
    vector(weights.k_norm, names::k_norm(layer));
    packer_.plain(weights.o, text_home_,
                  part_of(linear_matrix(checkpoint_, names::o_proj(layer)), 0, shard_.heads.first * d), c.hidden,
                  shard_.heads.count() * d, shard_.output_slices);
    vector(weights.post_norm, names::post_attention_norm(layer));
    if (c.moe()) {
      moe(weights.feed_forward.emplace<MoeWeights>(), layer);
    } else {
      dense(weights.feed_forward.emplace<DenseWeights>(), layer);
    }
  }

  void dense(DenseWeights& weights, int layer) {
    const std::int64_t hidden = config_.text.hidden;
    const StoredMatrix gate =
        part_of(linear_matrix(checkpoint_, names::gate_proj(layer)), shard_.intermediate.first, 0);
    const StoredMatrix up = part_of(linear_matrix(checkpoint_, names::up_proj(layer)), shard_.intermediate.first, 0);
    require_one_type({&gate, &up}, layer, "gate_proj and up_proj");
    packer_.gated(weights.gate_up, text_home_, gate, up, shard_.intermediate.count(), hidden);
    packer_.plain(weights.down, text_home_,
                  part_of(linear_matrix(checkpoint_, names::down_proj(layer)), 0, shard_.intermediate.first), hidden,
                  shard_.intermediate.count(), shard_.down_slices);
  }

  void moe(MoeWeights& weights, int layer) {
    const std::int64_t hidden = config_.text.hidden;
    const std::int64_t intermediate = config_.text.expert_intermediate;
    packer_.plain(weights.router, Home::kHost, linear_matrix(checkpoint_, names::router(layer)), config_.text.experts,
                  hidden, 1);
    const std::vector<int>& own = experts_.at(static_cast<std::size_t>(layer));
    weights.experts.resize(own.size());
    const std::int64_t width = intermediate / shard_.expert_shards;  // what a rank holds of an expert
    for (std::size_t local = 0; local < own.size(); ++local) {
      ExpertWeights& expert = weights.experts[local];
      const int index = own[local] / shard_.expert_shards;
      const std::int64_t first = own[local] % shard_.expert_shards * width;
      packer_.gated_joined(expert.gate_up, Home::kRank,
                           part_of(expert_matrix(checkpoint_, names::experts_gate_up(layer), index), first, 0), width,
                           hidden, intermediate);
      packer_.plain(expert.down, Home::kRank,
                    part_of(expert_matrix(checkpoint_, names::experts_down(layer), index), 0, first), hidden, width,
                    shard_.expert_slices / shard_.expert_shards);
    }
  }

  void merger(MergerWeights& weights, int index) {
    norm(weights.norm, names::merger_norm(index, "weight"), names::merger_norm(index, "bias"));
    linear(weights.fc1, names::merger_fc1(index, "weight"), names::merger_fc1(index, "bias"));
    linear(weights.fc2, names::merger_fc2(index, "weight"), names::merger_fc2(index, "bias"));
  }

  // A whole Linear with bias; the inputs may be spread over several axes (the patch embedding's 3 x 2 x 16 x 16).
  void linear(LinearWeights& weights, const std::string& weight, const std::string& bias) {
    const StoredTensor& tensor = checkpoint_.tensor(weight);
    const std::int64_t outputs = tensor.shape.front();
    packer_.plain(weights.w, Home::kHost, linear_matrix(checkpoint_, tensor), outputs, tensor.elements() / outputs, 1);
    vector(weights.bias, bias);
  }

  void norm(LayerNormWeights& weights, const std::string& weight, const std::string& bias) {
    vector(weights.weight, weight);
    vector(weights.bias, bias);
  }

  void vector(const float*& target, const std::string& name) {
    const StoredTensor& tensor = checkpoint_.tensor(name);
    check(tensor.type == StoredType::kBF16, "a vector is stored as BF16");
    packer_.floats(target, Home::kHost, tensor.elements(), [&tensor](float* out) {
      const Bf16* in = tensor.as<Bf16>();
      for (std::int64_t i = 0; i < tensor.elements(); ++i) {
        out[i] = from_bf16(in[i]);
      }
    });
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const Stage& stage_;
  const TextShard& shard_;
  const std::vector<std::vector<int>>& experts_;
  Home text_home_;
  WeightPacker& packer_;
};

}  // namespace

std::size_t LoadedWeights::resident_bytes(const Ranks& ranks) const {
  const auto counted = [](const WeightPacker::Packed& memory, const HostMemory& host) {
    return memory.own.bytes() + (host.local_rank() == 0 ? memory.shared.size() : 0);
  };
  return counted(vision_memory, *ranks.host) + counted(text_memory, *ranks.stage_host);
}

std::unique_ptr<LoadedWeights> load_weights(const Checkpoint& checkpoint, Ranks& ranks, const Compute& compute,
                                            const TextShard& shard, const std::vector<std::vector<int>>& experts,
                                            const std::function<void(double)>& progress) {
  auto weights = std::make_unique<LoadedWeights>();
  WeightPacker text, vision;
  // A tensor-parallel rank's cut is its own; without one all ranks of the stage on this host read the same matrices.
  const Home text_home = ranks.layout.tp == 1 ? Home::kHost : Home::kRank;
  const Stage stage = stage_of(checkpoint.config(), ranks.layout.pp, ranks.place.stage);
  Loader(checkpoint, stage, shard, experts, text_home, text).text(weights->text);
  Loader(checkpoint, stage, shard, experts, text_home, vision).vision(weights->vision);
  const auto bytes = static_cast<double>(text.bytes() + vision.bytes());
  const double text_part = static_cast<double>(text.bytes()) / std::max(bytes, 1.0);
  const auto told = [&progress](double first, double part) {
    return progress ? [=](double done) { progress(first + part * done); } : std::function<void(double)>();
  };
  weights->text_memory = text.pack_all(compute, *ranks.stage_host, told(0, text_part));
  weights->vision_memory = vision.pack_all(compute, *ranks.host, told(text_part, 1 - text_part));
  return weights;
}

}  // namespace zoetrope
