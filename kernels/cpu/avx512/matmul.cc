// Matrix products with AVX-512 fused multiply-adds, for CPUs where they are faster than VDPBF16PS, or which have none.
#include "kernels/cpu/avx512/matmul_tiles.h"
#include "kernels/cpu/matmul_ceiling.h"

namespace zoetrope {
namespace {

// Walk::kBytesScaled: rows of one pass over the weights, whose bytes are read once and widened in registers.
template <int kRows>
void bytes_fma_tile(const Tile& tile) {
  const Tile t = tile;
  const Fp8Widener widener;
  const float* x = static_cast<const float*>(t.x);
  const std::uint8_t* w = static_cast<const std::uint8_t*>(t.w);
  const char* prefetch = t.prefetch;
  Sums<kRows, 2> sums;
  sums.begin(nullptr, /*zeros=*/true);
  for (std::int64_t pair = t.pairs; pair > 0; --pair) {
    prefetch_lines<1>(prefetch);
    prefetch += t.prefetch_step;
    U32x16 words[2];
    widener.widen(w, words[0].all, words[1].all);
    const U32x16 upper = broadcast_bits(0xffff0000);
    const F32x16 odd[2] = {floats(bit_and(words[0], upper)), floats(bit_and(words[1], upper))};
    const F32x16 even[2] = {floats(shift_left<16>(words[0])), floats(shift_left<16>(words[1]))};
    sums.add_products(x + kRows, odd);
    sums.add_products(x, even);
    x += 2 * kRows;
    w += 64;
  }
  float block[kRows * 32];
  sums.end(block);
  add_scaled<kRows, 2>(t, block);
}

// More rows leave no registers for the tables.
constexpr int kBytesRows = 6;
constexpr TileFunction kBytesTiles[kBytesRows] = {bytes_fma_tile<1>, bytes_fma_tile<2>, bytes_fma_tile<3>,
                                                  bytes_fma_tile<4>, bytes_fma_tile<5>, bytes_fma_tile<6>};

struct Avx512Tiles {
  static constexpr int kTileRows = 12;
  static constexpr bool kPairs = false;
  static constexpr int kStreams = 4;  // Intel reads four streams 7 % faster than one, AMD one faster than four
  static constexpr int kStreamRows = 2;
  static constexpr FmaTable<kTileRows, kTileRows> kTable = make_fma_table<kTileRows, kTileRows>();

  static int vectors(int) { return 2; }
  static bool reads_bytes(int rows) { return rows <= kBytesRows; }
  static TileFunction tile(int rows, Walk walk, int lines) {
    if (walk == Walk::kBytesScaled) {
      return kBytesTiles[rows - 1];
    }
    return kTable.at[rows - 1][static_cast<int>(walk)][lines - 1];
  }
  static void widen_fp8(const std::uint8_t* from, std::int64_t pairs, std::uint32_t* to) {
    widen_all_fp8(from, pairs, to);
  }
};

}  // namespace

const MatmulBody& matmul_body_avx512() {
  static constexpr MatmulBody kBody{Avx512Tiles::kTileRows, Avx512Tiles::kPairs, pack_tile_of<Avx512Tiles>,
                                    panel_of<Avx512Tiles>, multiply_in_registers_of<24>, read_memory_of<>,
                                    /*block_bytes=*/1 << 20};
  return kBody;
}

}  // namespace zoetrope
