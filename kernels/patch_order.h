// Merge-block order of a frame's patches (reference 3.3): blocks of 2 x 2 in raster order, raster order inside a block.
#pragma once

#include <cstdint>

namespace zoetrope {

struct PatchPlace {
  int row = 0;
  int column = 0;
};

// Where patch `index` of a frame `gw` patches wide lies; gw is even.
inline PatchPlace merge_block_place(std::int64_t index, int gw) {
  const std::int64_t block = index / 4;
  const std::int64_t blocks_wide = gw / 2;
  return {static_cast<int>(block / blocks_wide * 2 + index / 2 % 2),
          static_cast<int>(block % blocks_wide * 2 + index % 2)};
}

}  // namespace zoetrope
