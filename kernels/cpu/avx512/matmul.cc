// Matrix products with AVX-512 fused multiply-adds, for CPUs where they are faster than VDPBF16PS, or which have none.
#include "kernels/cpu/avx512/matmul_tiles.h"
#include "kernels/cpu/matmul_ceiling.h"

namespace zoetrope {
namespace {

struct Avx512Tiles {
  static constexpr int kTileRows = 12;
  static constexpr bool kPairs = false;
  static constexpr FmaTable<kTileRows, kTileRows> kTable = make_fma_table<kTileRows, kTileRows>();

  static int vectors(int) { return 2; }
  static bool reads_bytes(int) { return false; }
  static TileFunction tile(int rows, Walk walk, int lines) { return kTable.at[rows - 1][static_cast<int>(walk)][lines - 1]; }
  static void widen_fp8(const std::uint8_t* from, std::int64_t pairs, std::uint32_t* to) { widen_all_fp8(from, pairs, to); }
};

}  // namespace

const MatmulBody& matmul_body_avx512() {
  static constexpr MatmulBody kBody{Avx512Tiles::kTileRows, Avx512Tiles::kPairs, pack_tile_of<Avx512Tiles>,
                                    panel_of<Avx512Tiles>, multiply_in_registers_of<24>, read_memory_of<>,
                                    /*block_bytes=*/1 << 20};
  return kBody;
}

}  // namespace zoetrope
