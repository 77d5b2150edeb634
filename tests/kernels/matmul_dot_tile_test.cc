// The tiles of the AVX-512 bodies (rows x 32, x as words of two bf16 or fp32) on the lanes of AVX2: their tiling,
// packing and order of additions are tested on every CPU with AVX2, their instructions only where bodies_here() has
// them (matmul_test).
#include "kernels/cpu/matmul_dot_tile.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/cpu/fp8.h"
#include "tests/kernels/matmul_case.h"

namespace zoetrope {
namespace {

using test::Numbers;
using test::Packed;
using test::Stored;

constexpr int kTileRowsHere = 12;

struct WideTiles {
  static constexpr int kTileRows = kTileRowsHere;
  static int vectors(int) { return 2; }
  static bool reads_bytes(int) { return false; }
  static void widen_fp8(const std::uint8_t* from, std::int64_t pairs, std::uint32_t* to) {
    for (std::int64_t pair = 0; pair < pairs; ++pair, from += 64, to += 32) {
      for (int c = 0; c < 32; ++c) {
        to[c] = bf16_of_e4m3(from[fp8_byte(c, 0)]) | static_cast<std::uint32_t>(bf16_of_e4m3(from[fp8_byte(c, 1)]))
                                                         << 16;
      }
    }
  }
};
struct FmaTiles : WideTiles {
  static constexpr bool kPairs = false;
  static constexpr int kStreams = 1;
  static constexpr auto kTable = make_fma_table<kTileRowsHere, kTileRowsHere>();
  static TileFunction tile(int rows, Walk walk, int lines) {
    return kTable.at[rows - 1][static_cast<int>(walk)][lines - 1];
  }
};
template <bool kFetches>
struct PairTiles : WideTiles {
  static constexpr bool kPairs = true;
  static constexpr int kStreams = 1;
  static constexpr int kSliceRows = 4;
  static constexpr auto kTable = make_dot_table<kTileRowsHere>();
  static TileFunction tile(int rows, Walk walk, int lines) {
    return kTable.tiles.at[rows - 1][static_cast<int>(walk)][lines - 1];
  }
  static void multiply_slice(Panel<PairTiles>& p, int slice) { dot_slice_of<kFetches>(p, slice); }
};

template <typename Tiles>
Body body_of() {
  Body all = body(BodyKind::kPortable);
  all.matmul.tile_rows = Tiles::kTileRows;
  all.matmul.packs_pairs = Tiles::kPairs;
  all.matmul.pack_tile = pack_tile_of<Tiles>;
  all.matmul.panel = panel_of<Tiles>;
  return all;
}

struct Shape {
  std::int64_t n, k;
  int slices;
  WeightType type;
};

struct Kind {
  const char* name;
  Body (*body)();
};

class TilesOfAvx512 : public testing::TestWithParam<Kind> {};

TEST_P(TilesOfAvx512, EqualTheDefinition) {
  if (best_body() < BodyKind::kAvx2) {
    GTEST_SKIP() << "this CPU has not the lanes of AVX2";
  }
  const Body tested = GetParam().body();
  for (const Shape& s : {Shape{33, 37, 1, WeightType::kBf16}, Shape{64, 2, 1, WeightType::kBf16},
                         Shape{40, 74, 2, WeightType::kBf16}, Shape{32, 1200, 4, WeightType::kBf16},
                         Shape{528, 36, 2, WeightType::kBf16}, Shape{200, 1200, 4, WeightType::kBf16},
                         Shape{48, 131, 1, WeightType::kF8E4M3}, Shape{64, 384, 2, WeightType::kF8E4M3}}) {
    Numbers numbers(static_cast<std::uint64_t>(s.k));
    const Stored stored(numbers, s.type, s.n, s.k, true, /*wild=*/true);
    const Packed packed(stored, PanelOrder::kPlain, s.slices);
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const auto x = numbers.rows(70 * s.k, true, precision == Precision::kBf16);
      for (const std::int64_t rows : {1, 2, 3, 4, 7, 12, 13, 30, 70}) {
        std::vector<float> expected;
        for (std::int64_t i = 0; i < rows * s.n; ++i) {
          expected.push_back(test::product(x.data() + i / s.n * s.k, stored, i % s.n, s.slices, precision));
        }
        for (const int threads : {1, 2}) {  // one: several panels in a job; two: one in each, as the matrices are small
          ThreadPool pool(threads);
          std::vector<float> out(expected.size());
          matmul({&tested, &pool, precision},
                 {.x = {x.data(), rows, s.k}, .w = packed.matrix, .out = {out.data(), rows, s.n}});
          for (std::size_t i = 0; i < out.size(); ++i) {
            ASSERT_EQ(std::memcmp(&out[i], &expected[i], sizeof(float)), 0)
                << "N " << s.n << " K " << s.k << " M " << rows << " threads " << threads << " element " << i;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, TilesOfAvx512,
                         testing::Values(Kind{"fma", body_of<FmaTiles>}, Kind{"pairs", body_of<PairTiles<false>>},
                                         Kind{"pairs_fetched", body_of<PairTiles<true>>}),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace zoetrope
