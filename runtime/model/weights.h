// The weights of one rank as the layers use them: packed matrices and fp32 vectors. Views; the memory belongs to
// LoadedWeights (loader.h). H hidden, D head width, V vocabulary, I feed-forward width, E experts.
#pragma once

#include <variant>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/tensor.h"

namespace zoetrope {

struct LinearWeights {
  PackedMatrix w;
  const float* bias = nullptr;  // [N]
};

struct LayerNormWeights {
  const float* weight = nullptr;
  const float* bias = nullptr;
};

// D vision hidden, Mi vision intermediate, O the decoder's H.
struct VisionBlockWeights {
  LayerNormWeights norm1, norm2;  // [D]
  LinearWeights qkv;              // [3D, D]: all q, all k, all v
  LinearWeights proj;             // [D, D]
  LinearWeights fc1;              // [Mi, D]
  LinearWeights fc2;              // [D, Mi]
};

// Four patches become one token.
struct MergerWeights {
  LayerNormWeights norm;  // main merger: [D], before the patches are joined; DeepStack: [4D], after
  LinearWeights fc1;      // [4D, 4D]
  LinearWeights fc2;      // [O, 4D]
};

struct VisionWeights {
  LinearWeights patch_embed;   // [D, 1536]
  Rows<const Bf16> positions;  // [side * side, D]
  std::vector<VisionBlockWeights> blocks;
  MergerWeights merger;
  std::vector<MergerWeights> deepstack;  // K belongs to block deepstack_visual_indexes[K]
};

struct DenseWeights {
  PackedMatrix gate_up;  // kGated [2 I/tp, H]
  PackedMatrix down;     // [H, I/tp]: own canonical slices of I
};

struct MoeWeights {
  PackedMatrix router;                 // [E, H], whole on every rank
  std::vector<ExpertWeights> experts;  // of this rank, ascending
};

// Columns of a product of several matrices with one input: [q | k | v].
struct AttentionColumns {
  std::int64_t q = 0, k = 0, v = 0;  // first column of each
  std::int64_t total = 0;
};

struct TextLayerWeights {
  const float* input_norm = nullptr;  // [H]
  PackedMatrix qkv;                   // [q | k | v of own heads, H], each part padded to whole panels
  const float* q_norm = nullptr;      // [D]
  const float* k_norm = nullptr;      // [D]
  PackedMatrix o;                     // [H, own heads * D]: own canonical slices
  const float* post_norm = nullptr;   // [H]
  std::variant<DenseWeights, MoeWeights> feed_forward;
};

struct TextWeights {
  Rows<const Bf16> embedding;  // [V, H] in the mapped checkpoint, never packed; on the first stage
  AttentionColumns columns;    // of qkv, the same in all layers
  std::vector<TextLayerWeights> layers;  // of the stage
  const float* norm = nullptr;           // [H]; norm and head on the last stage
  PackedMatrix head;                     // [own vocabulary, H]
};

}  // namespace zoetrope
