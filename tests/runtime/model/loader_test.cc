#include "runtime/model/loader.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/collectives.h"
#include "parallel/expert_placement.h"
#include "runtime/checkpoint/tensor_names.h"
#include "tests/runtime/model/tiny_models.h"

namespace zoetrope::test {
namespace {

std::size_t padded(std::int64_t bytes) { return static_cast<std::size_t>((bytes + 63) / 64 * 64); }

// Bytes of one Linear [n, k] in panels of 32 outputs, every region padded to 64 bytes; FP8 with its scales.
std::size_t linear_bytes(std::int64_t n, std::int64_t k, bool fp8, int slices = 1) {
  const std::int64_t panels = (n + 31) / 32;
  const std::int64_t slice_k = (k / slices + 1) / 2 * 2;
  if (!fp8) {
    return padded(slices * panels * 32 * slice_k * 2);
  }
  const auto scales = static_cast<std::int64_t>(packed_scales(WeightType::kF8E4M3, n, k, slices)) * 4;
  return padded(slices * panels * 32 * slice_k) + padded(scales);
}

struct Expected {
  std::size_t shared = 0;                 // once per host
  std::vector<std::size_t> stage_shared;  // per stage, once per host
  std::vector<std::size_t> own;           // per rank
};

// What the shards of a layout must take, from the sizes of the model alone.
Expected expected_bytes(const ModelConfig& config, Layout layout) {
  const TextConfig& t = config.text;
  const VisionConfig& v = config.vision;
  Expected e;
  e.stage_shared.resize(static_cast<std::size_t>(layout.pp));
  const std::int64_t d = v.hidden, merged = 4 * d, o = v.out_hidden;
  e.shared += linear_bytes(d, 1536, false) + padded(4 * d) + padded(2 * d * v.position_grid * v.position_grid);
  e.shared += static_cast<std::size_t>(v.depth) *
              (4 * padded(4 * d) + linear_bytes(3 * d, d, false) + padded(12 * d) + linear_bytes(d, d, false) +
               padded(4 * d) + linear_bytes(v.intermediate, d, false) + padded(4 * v.intermediate) +
               linear_bytes(d, v.intermediate, false) + padded(4 * d));
  const std::size_t merger =
      linear_bytes(merged, merged, false) + padded(4 * merged) + linear_bytes(o, merged, false) + padded(4 * o);
  e.shared += merger + 2 * padded(4 * d) + v.deepstack.size() * (merger + 2 * padded(4 * merged));
  for (int stage = 0; stage < layout.pp; ++stage) {
    const auto layers =
        static_cast<std::size_t>(stage_layers(config, layout.pp)[static_cast<std::size_t>(stage)].count());
    std::size_t& shared = e.stage_shared[static_cast<std::size_t>(stage)];
    shared += layers * (2 * padded(4 * t.hidden) + 2 * padded(4 * t.head_dim));
    shared += t.moe() ? layers * linear_bytes(t.experts, t.hidden, false) : 0;
    shared += stage == layout.pp - 1 ? padded(4 * t.hidden) : 0;  // final norm
  }
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    const Place place = place_of(layout, rank);
    const auto stage = static_cast<std::size_t>(place.stage);
    const auto layers = static_cast<std::size_t>(stage_layers(config, layout.pp)[stage].count());
    const TextShard shard = text_shard(config, place.tp_index, layout.tp);
    const std::int64_t q = shard.heads.count() * t.head_dim, kv = shard.kv_heads.count() * t.head_dim;
    std::size_t cut =
        linear_bytes(q + 2 * kv, t.hidden, config.fp8) + linear_bytes(t.hidden, q, config.fp8, shard.output_slices);
    std::size_t dealt_bytes = 0;
    if (t.moe()) {
      const int stage_rank = rank % layout.stage_ranks();
      const auto mine = ExpertTable::contiguous(t.experts, layout.stage_ranks()).experts_of(stage_rank).size();
      dealt_bytes = layers * mine *
                    (linear_bytes(2 * t.expert_intermediate, t.hidden, config.fp8) +
                     linear_bytes(t.hidden, t.expert_intermediate, config.fp8, shard.expert_slices));
    } else {
      const std::int64_t columns = shard.intermediate.count();
      cut += linear_bytes(2 * columns, t.hidden, config.fp8) +
             linear_bytes(t.hidden, columns, config.fp8, shard.down_slices);
    }
    const std::size_t head = place.stage == layout.pp - 1 ? linear_bytes(shard.vocabulary.count(), t.hidden, false) : 0;
    const std::size_t text = layers * cut + head;
    if (layout.tp == 1) {
      e.stage_shared[stage] += place.member == 0 ? text : 0;
      e.own.push_back(dealt_bytes);
    } else {
      e.own.push_back(text + dealt_bytes);
    }
  }
  return e;
}

TEST(Loader, ResidentBytesAreTheShardsAndNothingElse) {
  for (const char* name : {"tiny-dense", "tiny-moe", "tiny-moe-fp8"}) {
    const Checkpoint checkpoint = open_tiny(name);
    for (const Layout layout :
         {Layout{1, 1}, Layout{4, 1}, Layout{1, 2}, Layout{2, 2}, Layout{.pp = 2}, Layout{.pp = 4},
          Layout{.ring = 2, .tp = 1, .pp = 2}, Layout{.ring = 1, .tp = 2, .pp = 3}}) {
      const Expected expected = expected_bytes(checkpoint.config(), layout);
      run_ranks(layout, [&](Ranks& ranks) {
        ThreadPool pool(1);
        const auto model = load_tiny(checkpoint, ranks, pool, Precision::kBf16);
        const auto stage = static_cast<std::size_t>(ranks.place.stage);
        const std::size_t shared = (ranks.host->local_rank() == 0 ? expected.shared : 0) +
                                   (ranks.stage_host->local_rank() == 0 ? expected.stage_shared[stage] : 0);
        EXPECT_EQ(model->resident_bytes(), shared + expected.own[static_cast<std::size_t>(ranks.place.rank)])
            << name << " " << described(layout) << " rank " << ranks.place.rank;
      });
    }
  }
}

// True when a byte written through one address is read through the other: a region may be mapped once per rank.
bool same_memory(const std::byte* a, const std::byte* b) {
  auto& written = *const_cast<std::byte*>(a);
  const std::byte before = written;
  const std::byte seen = *b;
  written = ~before;
  const bool same = *static_cast<const volatile std::byte*>(b) == ~before && seen == before;
  written = before;
  return same;
}

// Ranks of one host read the same memory; experts are their own.
TEST(Loader, SharedMatricesLieOncePerHost) {
  const Checkpoint checkpoint = open_tiny("tiny-moe");
  std::vector<std::unique_ptr<LoadedWeights>> loaded(2);
  std::vector<std::vector<int>> experts{{0, 1, 2, 3}, {4, 5, 6, 7}};
  run_ranks({.ring = 2, .tp = 1}, [&](Ranks& ranks) {
    ThreadPool pool(1);
    const auto rank = static_cast<std::size_t>(ranks.place.rank);
    const TextShard shard = text_shard(checkpoint.config(), 0, 1);
    auto& mine = loaded[rank];
    mine = load_weights(
        checkpoint, ranks, compute_on(pool, Precision::kBf16), shard,
        std::vector<std::vector<int>>(static_cast<std::size_t>(checkpoint.config().text.layers), experts[rank]), {});
    barrier(*ranks.world, "loaded");
    if (rank == 0) {
      const auto& moe = std::get<MoeWeights>(loaded[0]->text.layers[4].feed_forward);
      const auto& other = std::get<MoeWeights>(loaded[1]->text.layers[4].feed_forward);
      EXPECT_TRUE(same_memory(loaded[0]->text.head.data, loaded[1]->text.head.data));
      EXPECT_TRUE(same_memory(loaded[0]->vision.merger.fc1.w.data, loaded[1]->vision.merger.fc1.w.data));
      EXPECT_TRUE(same_memory(moe.router.data, other.router.data));
      EXPECT_EQ(moe.experts.size(), 4U);
      EXPECT_FALSE(same_memory(moe.experts[0].gate_up.data, other.experts[0].gate_up.data));
    }
    barrier(*ranks.world, "compared");
  });
}

// The embedding is read where the checkpoint is mapped, and a tied head is the packed embedding.
TEST(Loader, TheEmbeddingStaysInTheFile) {
  const Checkpoint checkpoint = open_tiny("tiny-dense");
  Ranks ranks = self_ranks();
  ThreadPool pool(1);
  const auto weights = load_weights(checkpoint, ranks, compute_on(pool, Precision::kBf16),
                                    text_shard(checkpoint.config(), 0, 1), {}, {});
  const StoredTensor& embedding = checkpoint.tensor(tensor_names::embedding());
  EXPECT_EQ(weights->text.embedding.data, embedding.as<Bf16>());
  ASSERT_TRUE(checkpoint.head_is_embedding());
  // Panel 0, inputs 0 and 1 of output 5: [k pair][32][2].
  const auto* packed = reinterpret_cast<const Bf16*>(weights->text.head.data);
  EXPECT_EQ(packed[2 * 5], embedding.as<Bf16>()[5 * 128]);
  EXPECT_EQ(packed[2 * 5 + 1], embedding.as<Bf16>()[5 * 128 + 1]);
}

TEST(Loader, TellsItsProgress) {
  const Checkpoint checkpoint = open_tiny("tiny-dense");
  Ranks ranks = self_ranks();
  ThreadPool pool(2);
  std::vector<double> told;
  load_weights(checkpoint, ranks, compute_on(pool, Precision::kBf16), text_shard(checkpoint.config(), 0, 1), {},
               [&](double done) { told.push_back(done); });
  ASSERT_GT(told.size(), 5U);
  EXPECT_TRUE(std::ranges::is_sorted(told));
  EXPECT_EQ(told.back(), 1.0);
}

}  // namespace
}  // namespace zoetrope::test
