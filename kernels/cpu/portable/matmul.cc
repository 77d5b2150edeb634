// Matrix products in plain C++, for CPUs without AVX2.
#include "kernels/cpu/fp8.h"
#include "kernels/cpu/matmul_ceiling.h"
#include "kernels/cpu/matmul_panel.h"

namespace zoetrope {
namespace {

struct PortableTiles {
  static constexpr int kTileRows = 2;
  static constexpr bool kPairs = false;
  static constexpr int kStreams = 1;
  static constexpr FmaTable<kTileRows, 0> kTable = make_fma_table<kTileRows, 0>();

  static int vectors(int) { return 1; }
  static bool reads_bytes(int) { return false; }
  static TileFunction tile(int rows, Walk walk, int lines) {
    return kTable.at[rows - 1][static_cast<int>(walk)][lines - 1];
  }
  static void widen_fp8(const std::uint8_t* from, std::int64_t pairs, std::uint32_t* to) {
    for (std::int64_t pair = 0; pair < pairs; ++pair, from += 2 * kPanelColumns, to += kPanelColumns) {
      for (int c = 0; c < kPanelColumns; ++c) {
        const std::uint32_t odd = kE4m3Table.bf16[from[fp8_byte(c, 1)]];
        to[c] = kE4m3Table.bf16[from[fp8_byte(c, 0)]] | odd << 16;
      }
    }
  }
};

}  // namespace

const MatmulBody& matmul_body_portable() {
  static constexpr MatmulBody kBody{PortableTiles::kTileRows, PortableTiles::kPairs, pack_tile_of<PortableTiles>,
                                    panel_of<PortableTiles>, multiply_in_registers_of<2>, read_memory_of<>};
  return kBody;
}

}  // namespace zoetrope
