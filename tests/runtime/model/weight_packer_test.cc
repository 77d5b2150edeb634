#include "runtime/model/weight_packer.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/body.h"
#include "kernels/thread_pool.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

// A stored matrix with random bytes: [n, k] with inputs side by side, or [k, n].
struct Source {
  Source(WeightType type, std::int64_t n, std::int64_t k, bool input_major, unsigned seed) {
    std::mt19937 random(seed);
    bytes.resize(static_cast<std::size_t>(n * k) * (type == WeightType::kBf16 ? 2 : 1));
    for (std::byte& b : bytes) {
      b = static_cast<std::byte>(random());
    }
    const std::int64_t columns = div_ceil<std::int64_t>(input_major ? n : k, 128);
    scales.resize(static_cast<std::size_t>(div_ceil<std::int64_t>(input_major ? k : n, 128) * columns));
    for (float& s : scales) {
      s = static_cast<float>(random() % 1000) / 997.0F;
    }
    stored = {
        .type = type, .data = bytes.data(), .output_stride = input_major ? 1 : k, .input_stride = input_major ? n : 1};
    if (type == WeightType::kF8E4M3) {
      stored.scales = scales.data();
      stored.scale_output_stride = input_major ? 1 : columns;
      stored.scale_input_stride = input_major ? columns : 1;
    }
  }
  std::vector<std::byte> bytes;
  std::vector<float> scales;
  StoredMatrix stored;
};

struct Packing {
  std::vector<std::byte> data;
  std::vector<float> scales;
};

void expect_same(const PackedMatrix& ours, const PackedMatrix& expected) {
  ASSERT_EQ(ours.n, expected.n);
  ASSERT_EQ(ours.k, expected.k);
  ASSERT_EQ(ours.slices, expected.slices);
  ASSERT_EQ(ours.order, expected.order);
  ASSERT_EQ(ours.type, expected.type);
  ASSERT_EQ(ours.input_origin, expected.input_origin);
  const std::size_t bytes = packed_bytes(ours.type, ours.order, ours.n, ours.k, ours.slices);
  EXPECT_EQ(std::memcmp(ours.data, expected.data, bytes), 0);
  const std::size_t scales = packed_scales(ours.type, ours.n, ours.k, ours.slices);
  ASSERT_EQ(ours.scales != nullptr, scales != 0);
  if (scales != 0) {
    EXPECT_EQ(std::memcmp(ours.scales, expected.scales, scales * sizeof(float)), 0);
  }
}

// What kernels/matmul.h packs in one call, in memory of its own.
template <typename Pack>
PackedMatrix packed_at_once(AnonymousMemory& memory, WeightType type, PanelOrder order, std::int64_t n, std::int64_t k,
                            int slices, Pack&& pack_into) {
  const std::size_t bytes = round_up<std::size_t>(packed_bytes(type, order, n, k, slices), 64);
  memory = AnonymousMemory(bytes + packed_scales(type, n, k, slices) * sizeof(float) + 64, "test");
  return pack_into(memory.data(), reinterpret_cast<float*>(memory.data() + bytes));
}

struct Targets {
  PackedMatrix plain, sliced, gated, joined, stacked, wide;
  const float* vector = nullptr;
  Rows<const Bf16> table;
};

class PackerTest : public testing::TestWithParam<WeightType> {};

TEST_P(PackerTest, PiecesOfManyRanksMakeWhatOneCallPacks) {
  const WeightType type = GetParam();
  const Source plain(type, 70, 256, false, 1);
  const Source sliced(type, 64, 1024, false, 2);
  const Source gate(type, 384, 128, false, 3);
  const Source up(type, 384, 128, false, 4);
  const Source joined(type, 512, 128, true, 5);  // 256 gates, 256 ups, input-major
  const Source wide(type, 8192, 384, false, 6);  // several pieces
  for (const int local_ranks : {1, 3}) {
    run_ranks({.ring = local_ranks, .tp = 1}, [&](Ranks& ranks) {
      ThreadPool pool(2);
      const Compute compute{.body = &body(best_body()), .pool = &pool};
      Targets t;
      WeightPacker packer;
      packer.plain(t.plain, Home::kHost, plain.stored, 70, 256, 1);
      packer.plain(t.sliced, Home::kRank, part_of(sliced.stored, 0, 512), 64, 512, 4);
      packer.gated(t.gated, Home::kHost, part_of(gate.stored, 128, 0), part_of(up.stored, 128, 0), 200, 128);
      packer.gated_joined(t.joined, Home::kRank, joined.stored, 256, 128, 256);
      packer.plain(t.wide, Home::kHost, wide.stored, 8192, 384, 1);
      packer.floats(t.vector, Home::kHost, 3, [](float* out) { out[2] = 5; });
      packer.table(t.table, Home::kHost, 2, 2, [](Bf16* out) { out[3] = 9; });
      double last = 0;
      const WeightPacker::Packed packed = packer.pack_all(compute, *ranks.host, [&](double done) {
        EXPECT_GE(done, last);
        last = done;
      });
      EXPECT_EQ(last, 1.0);
      EXPECT_EQ(packed.shared.data() <= t.plain.data && t.plain.data < packed.shared.data() + packed.shared.size(),
                true);

      AnonymousMemory memory;
      const auto once = [&](PanelOrder order, std::int64_t n, std::int64_t k, int slices, auto&& pack_into) {
        return packed_at_once(memory, type, order, n, k, slices, pack_into);
      };
      expect_same(t.plain, once(PanelOrder::kPlain, 70, 256, 1, [&](std::byte* data, float* scales) {
                    return pack(plain.stored, PanelOrder::kPlain, 70, 256, 1, 0, data, scales);
                  }));
      expect_same(t.sliced, once(PanelOrder::kPlain, 64, 512, 4, [&](std::byte* data, float* scales) {
                    return pack(part_of(sliced.stored, 0, 512), PanelOrder::kPlain, 64, 512, 4, 0, data, scales);
                  }));
      expect_same(t.gated, once(PanelOrder::kGated, 400, 128, 1, [&](std::byte* data, float* scales) {
                    return pack_gated(part_of(gate.stored, 128, 0), part_of(up.stored, 128, 0), 400, 128, data, scales);
                  }));
      expect_same(t.joined, once(PanelOrder::kGated, 512, 128, 1, [&](std::byte* data, float* scales) {
                    return pack(joined.stored, PanelOrder::kGated, 512, 128, 1, 256, data, scales);
                  }));
      expect_same(t.wide, once(PanelOrder::kPlain, 8192, 384, 1, [&](std::byte* data, float* scales) {
                    return pack(wide.stored, PanelOrder::kPlain, 8192, 384, 1, 0, data, scales);
                  }));
      EXPECT_EQ(t.vector[2], 5);
      EXPECT_EQ(t.table.row(1)[1], 9);
      EXPECT_EQ(packed.own.bytes() > 0, true);
    });
  }
}

TEST_P(PackerTest, StackedPartsBeginAtWholePanels) {
  const WeightType type = GetParam();
  const Source q(type, 48, 128, false, 1);
  const Source k(type, 16, 128, false, 2);
  Ranks ranks = self_ranks();
  ThreadPool pool(1);
  const Compute compute{.body = &body(best_body()), .pool = &pool};
  PackedMatrix target;
  WeightPacker packer;
  const std::array parts{WeightPacker::Part{q.stored, 48}, WeightPacker::Part{k.stored, 16}};
  packer.stacked(target, Home::kRank, parts, 128);
  const auto packed = packer.pack_all(compute, *ranks.host, {});
  EXPECT_EQ(target.n, 96);
  AnonymousMemory memory;
  const PackedMatrix expected_q = packed_at_once(
      memory, type, PanelOrder::kPlain, 48, 128, 1,
      [&](std::byte* data, float* scales) { return pack(q.stored, PanelOrder::kPlain, 48, 128, 1, 0, data, scales); });
  const std::size_t q_bytes = packed_bytes(type, PanelOrder::kPlain, 48, 128, 1);
  EXPECT_EQ(std::memcmp(target.data, expected_q.data, q_bytes), 0);
  const PackedMatrix expected_k = packed_at_once(
      memory, type, PanelOrder::kPlain, 16, 128, 1,
      [&](std::byte* data, float* scales) { return pack(k.stored, PanelOrder::kPlain, 16, 128, 1, 0, data, scales); });
  EXPECT_EQ(std::memcmp(target.data + q_bytes, expected_k.data, packed_bytes(type, PanelOrder::kPlain, 16, 128, 1)), 0);
  if (type == WeightType::kF8E4M3) {
    EXPECT_EQ(target.scales[0], q.scales[0]);
    EXPECT_EQ(target.scales[packed_scales(type, 48, 128, 1)], k.scales[0]);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, PackerTest, testing::Values(WeightType::kBf16, WeightType::kF8E4M3),
                         [](const auto& tested) { return tested.param == WeightType::kBf16 ? "Bf16" : "Fp8"; });

}  // namespace
}  // namespace zoetrope
