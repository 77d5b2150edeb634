#include "runtime/model/vision_tower.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/rotary.h"
#include "monitoring/check.h"

namespace zoetrope {
namespace {

constexpr float kLayerNormEps = 1e-6F;
// Rows that go through a wide layer at once: bounds the memory of its inside, which is the tower's widest.
constexpr std::int64_t kTileRows = 2048;

void linear(const Compute& compute, const LinearWeights& weights, Rows<const float> x, Rows<float> out) {
  matmul(compute, {.x = x, .w = weights.w, .bias = weights.bias, .out = out});
}

}  // namespace

VisionTower::VisionTower(const VisionConfig& config, const VisionWeights& weights, Compute compute, Observer observer)
    : config_(config), weights_(weights), compute_(compute), observer_(std::move(observer)) {}

void VisionTower::encode(const VisionBatch& batch, Rows<float> out) {
  const std::int64_t patches = std::int64_t{batch.units} * batch.gh * batch.gw;
  const std::int64_t features = config_.out_hidden;
  check(batch.units >= 0 && batch.gh % config_.merge == 0 && batch.gw % config_.merge == 0,
        "frames are whole merge blocks");
  check_eq(batch.patches.rows, patches, "patches of the batch");
  check_eq(batch.patches.columns, std::int64_t{config_.patch_columns()}, "columns of a patch");
  check_eq(out.rows, patches / (config_.merge * config_.merge), "tokens of the batch");
  check_eq(out.columns, features * static_cast<std::int64_t>(1 + config_.deepstack.size()), "feature columns");
  if (patches == 0) {
    return;
  }
  const Rows<float> h = activations_.h.shaped(patches, config_.hidden);
  embed_patches(batch, h);
  observe("vision.patch_embed", h);
  add_positions(batch, h);
  observe("vision.pos_added", h);
  const Rows<float> cos = activations_.cos.shaped(patches, config_.head_dim() / 2);
  const Rows<float> sin = activations_.sin.shaped(patches, config_.head_dim() / 2);
  build_rotary_table(batch, cos, sin);
  const std::vector<std::int64_t> frames(static_cast<std::size_t>(batch.units), std::int64_t{batch.gh} * batch.gw);
  for (int index = 0; index < config_.depth; ++index) {
    run_block(weights_.blocks[static_cast<std::size_t>(index)], frames, cos, sin, h);
    observe(fmt::format("vision.block.{}", index), h);
    for (std::size_t k = 0; k < config_.deepstack.size(); ++k) {
      if (config_.deepstack[k] == index) {
        const Rows<float> feature = columns_of(out, features * static_cast<std::int64_t>(1 + k), features);
        merge_deepstack(weights_.deepstack[k], h, feature);
        observe(fmt::format("vision.deepstack.{}", k), feature);
      }
    }
  }
  merge_main(h, columns_of(out, 0, features));
  observe("vision.out", columns_of(out, 0, features));
}

// A convolution whose kernel is its stride is a product (reference 3.4).
void VisionTower::embed_patches(const VisionBatch& batch, Rows<float> h) {
  for (std::int64_t first = 0; first < h.rows; first += kTileRows) {
    const std::int64_t count = std::min(kTileRows, h.rows - first);
    linear(compute_, weights_.patch_embed, batch.patches.slice(first, count), h.slice(first, count));
  }
}

// One interpolated table for all frames: it has no temporal component (reference 3.5).
void VisionTower::add_positions(const VisionBatch& batch, Rows<float> h) {
  const std::int64_t frame = std::int64_t{batch.gh} * batch.gw;
  const Rows<float> positions = activations_.positions.shaped(frame, config_.hidden);
  interpolate_positions(compute_, weights_.positions, config_.position_grid, batch.gh, batch.gw, positions);
  for (int unit = 0; unit < batch.units; ++unit) {
    add_rows(compute_, h.slice(unit * frame, frame), positions);
  }
}

void VisionTower::build_rotary_table(const VisionBatch& batch, Rows<float> cos, Rows<float> sin) {
  const std::int64_t frame = std::int64_t{batch.gh} * batch.gw;
  vision_rotary_table(config_.head_dim(), batch.gh, batch.gw, cos.slice(0, frame), sin.slice(0, frame));
  const std::size_t bytes = static_cast<std::size_t>(frame * cos.columns) * sizeof(float);
  for (int unit = 1; unit < batch.units; ++unit) {
    std::memcpy(cos.row(unit * frame), cos.data, bytes);
    std::memcpy(sin.row(unit * frame), sin.data, bytes);
  }
}

// h += proj(attention(LN1(h))); h += fc2(gelu_tanh(fc1(LN2(h)))): reference 3.7.
void VisionTower::run_block(const VisionBlockWeights& block, std::span<const std::int64_t> frames,
                            Rows<const float> cos, Rows<const float> sin, Rows<float> h) {
  const std::int64_t width = config_.hidden;
  const Rows<float> normed = activations_.normed.shaped(h.rows, width);
  layer_norm(compute_, h, block.norm1.weight, block.norm1.bias, kLayerNormEps, normed);
  const Rows<float> qkv = activations_.qkv.shaped(h.rows, 3 * width);
  linear(compute_, block.qkv, normed, qkv);
  const Rows<float> q = columns_of(qkv, 0, width);
  const Rows<float> k = columns_of(qkv, width, width);
  rotate(compute_, q, config_.head_dim(), cos, sin);
  rotate(compute_, k, config_.head_dim(), cos, sin);
  const Rows<float> attended = activations_.attended.shaped(h.rows, width);
  segment_attention(compute_, config_.heads, q, k, columns_of(qkv, 2 * width, width), frames, attended);
  const Rows<float> product = activations_.product.shaped(h.rows, width);
  linear(compute_, block.proj, attended, product);
  add_rows(compute_, h, product);

  layer_norm(compute_, h, block.norm2.weight, block.norm2.bias, kLayerNormEps, normed);
  for (std::int64_t first = 0; first < h.rows; first += kTileRows) {
    const std::int64_t count = std::min(kTileRows, h.rows - first);
    const Rows<float> hidden = activations_.hidden.shaped(count, config_.intermediate);
    linear(compute_, block.fc1, normed.slice(first, count), hidden);
    gelu_tanh(compute_, hidden);
    linear(compute_, block.fc2, hidden, product.slice(first, count));
  }
  add_rows(compute_, h, product);
}

// Normalised as patches, then four patches are joined (reference 3.8).
void VisionTower::merge_main(Rows<const float> h, Rows<float> out) {
  const Rows<float> normed = activations_.normed.shaped(h.rows, h.columns);
  layer_norm(compute_, h, weights_.merger.norm.weight, weights_.merger.norm.bias, kLayerNormEps, normed);
  merge(weights_.merger, {normed.data, out.rows, config_.merged_width()}, out);
}

// Joined first, then normalised over all four patches.
void VisionTower::merge_deepstack(const MergerWeights& merger, Rows<const float> h, Rows<float> out) {
  const Rows<const float> joined{h.data, out.rows, config_.merged_width()};
  const Rows<float> normed = activations_.normed.shaped(joined.rows, joined.columns);
  layer_norm(compute_, joined, merger.norm.weight, merger.norm.bias, kLayerNormEps, normed);
  merge(merger, normed, out);
}

void VisionTower::merge(const MergerWeights& merger, Rows<const float> joined, Rows<float> out) {
  for (std::int64_t first = 0; first < joined.rows; first += kTileRows) {
    const std::int64_t count = std::min(kTileRows, joined.rows - first);
    const Rows<float> hidden = activations_.hidden.shaped(count, joined.columns);
    linear(compute_, merger.fc1, joined.slice(first, count), hidden);
    gelu_erf(compute_, hidden);
    linear(compute_, merger.fc2, hidden, out.slice(first, count));
  }
}

void VisionTower::observe(std::string_view name, Rows<const float> values) const {
  if (observer_) {
    observer_(name, values);
  }
}

}  // namespace zoetrope
