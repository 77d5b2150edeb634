// Layout and refusals of packing; that packed weights multiply right is matmul_test's subject.
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/matmul.h"
#include "monitoring/error.h"
#include "tests/kernels/matmul_case.h"

namespace zoetrope {
namespace {

using test::Numbers;
using test::Packed;
using test::Stored;

TEST(Pack, LaysPanelsOutAsTheHeaderSays) {
  Numbers numbers(1);
  for (const bool input_major : {false, true}) {
    for (const int slices : {1, 2}) {
      const std::int64_t n = 50, k = 14;  // slices of 7: padded to 8
      const Stored stored(numbers, WeightType::kBf16, n, k, input_major);
      const Packed packed(stored, PanelOrder::kPlain, slices);
      const std::int64_t inputs = k / slices, padded = (inputs + 1) / 2 * 2;
      const auto* words = reinterpret_cast<const Bf16*>(packed.matrix.data);
      for (std::int64_t s = 0; s < slices; ++s) {
        for (std::int64_t column = 0; column < 64; ++column) {
          for (std::int64_t i = 0; i < padded; ++i) {
            const std::int64_t at = ((s * 2 + column / 32) * padded / 2 + i / 2) * 64 + column % 32 * 2 + i % 2;
            const float expected = column < n && i < inputs ? stored.unscaled(column, s * inputs + i) : 0.0f;
            ASSERT_EQ(from_bf16(words[at]), expected) << s << " " << column << " " << i;
          }
        }
      }
      EXPECT_TRUE(packed.guarded());
    }
  }
}

TEST(Pack, GatedPanelsHoldSixteenGatesAndTheirUps) {
  Numbers numbers(2);
  const std::int64_t gates = 20, k = 4;
  const Stored stored(numbers, WeightType::kBf16, 2 * gates, k, true);
  const Packed packed(stored, PanelOrder::kGated, 1);
  const auto* words = reinterpret_cast<const Bf16*>(packed.matrix.data);
  for (std::int64_t panel = 0; panel < 2; ++panel) {
    for (std::int64_t column = 0; column < 32; ++column) {
      const std::int64_t i = panel * 16 + column % 16;
      for (std::int64_t input = 0; input < k; ++input) {
        const float expected = i < gates ? stored.unscaled(i + (column >= 16 ? gates : 0), input) : 0.0f;
        ASSERT_EQ(from_bf16(words[(panel * k / 2 + input / 2) * 64 + column * 2 + input % 2]), expected);
      }
    }
  }
}

// tp = 2 of an expert's gate_up [in, 2I]: the shard's gates and ups lie I apart, not I / 2.
TEST(Pack, ShardOfAGatedMatrixFindsItsUps) {
  Numbers numbers(3);
  const std::int64_t gates = 64, k = 6;
  const Stored whole(numbers, WeightType::kBf16, 2 * gates, k, true);
  StoredMatrix shard = whole.view();
  shard.data += 32 * sizeof(Bf16);  // gates 32 .. 63
  alignas(64) static std::byte data[2 * 32 * 6 * 2];
  ASSERT_EQ(packed_bytes(WeightType::kBf16, PanelOrder::kGated, gates, k, 1), sizeof data);
  pack(shard, PanelOrder::kGated, gates, k, 1, /*up_offset=*/gates, data, nullptr);
  const auto* words = reinterpret_cast<const Bf16*>(data);
  EXPECT_EQ(from_bf16(words[0]), whole.unscaled(32, 0));
  EXPECT_EQ(from_bf16(words[16 * 2 + 1]), whole.unscaled(gates + 32, 1));
}

TEST(Pack, ScalesFollowTheBlocksOfTheWholeMatrix) {
  Numbers numbers(4);
  const Stored stored(numbers, WeightType::kF8E4M3, 160, 256, false, false, /*output_origin=*/96, /*input_origin=*/64);
  std::vector<std::uint8_t> aligned(packed_bytes(WeightType::kF8E4M3, PanelOrder::kPlain, 160, 256, 2) + 64);
  auto* data = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(aligned.data()) + 63) / 64 * 64);
  std::vector<float> scales(packed_scales(WeightType::kF8E4M3, 160, 256, 2));
  const PackedMatrix packed = pack(stored.view(), PanelOrder::kPlain, 160, 256, 2, 0, data, scales.data());
  EXPECT_EQ(packed.input_origin, 64);
  const std::int64_t blocks = scale_blocks(128);
  EXPECT_EQ(blocks, 2);
  // Slice 1 begins at input 64 + 128 = 192: half of block 1, then block 2.
  const auto found = [&](int slice, int panel, int block, int half) {
    return scales[static_cast<std::size_t>(((slice * 5 + panel) * blocks + block) * 2 + half)];
  };
  EXPECT_EQ(found(0, 0, 0, 0), stored.scale(0, 0));
  EXPECT_EQ(found(0, 0, 1, 0), stored.scale(0, 64));
  EXPECT_EQ(found(1, 1, 0, 1), stored.scale(48, 128));
  EXPECT_EQ(found(1, 4, 1, 1), stored.scale(144, 192));
}

TEST(Pack, RefusesFp8ShardsThatCutAHalfPanel) {
  Numbers numbers(5);
  const Stored stored(numbers, WeightType::kF8E4M3, 64, 128, false, false, /*output_origin=*/120);
  EXPECT_THROW(Packed(stored, PanelOrder::kPlain, 1), Error);
  const Stored odd(numbers, WeightType::kF8E4M3, 64, 130, false, false, 0, /*input_origin=*/127);
  EXPECT_THROW(Packed(odd, PanelOrder::kPlain, 1), Error);
}

TEST(PackDeathTest, ImpossibleShapesAreBugs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(packed_bytes(WeightType::kBf16, PanelOrder::kPlain, 32, 10, 4), "leave a rest");
  EXPECT_DEATH(packed_bytes(WeightType::kBf16, PanelOrder::kPlain, 32, 48, 3), "power of two");
  EXPECT_DEATH(packed_bytes(WeightType::kBf16, PanelOrder::kPlain, std::int64_t{1} << 40, std::int64_t{1} << 40, 1),
               "larger than 2");
}

}  // namespace
}  // namespace zoetrope
