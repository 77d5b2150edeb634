#include "runtime/model/tp_gather.h"

#include <gtest/gtest.h>

#include <vector>

#include "parallel/ranks.h"

namespace zoetrope {
namespace {

constexpr float value_at(std::int64_t row, std::int64_t column) { return static_cast<float>(100 * row + column); }

TEST(TpGather, RowBlocksOfAnySizeMeetOnEveryRank) {
  const std::vector<Range> blocks{{0, 3}, {3, 3}, {3, 4}, {4, 9}};
  run_ranks({.ring = 1, .tp = 4}, [&](Ranks& ranks) {
    std::vector<float> memory(9 * 5, -1.0F);
    const Rows<float> all{memory.data(), 9, 5};
    const Range own = blocks[static_cast<std::size_t>(ranks.tp->rank())];
    for (std::int64_t row = own.first; row < own.end; ++row) {
      for (std::int64_t c = 0; c < 5; ++c) {
        all.row(row)[c] = value_at(row, c);
      }
    }
    gather_row_blocks(*ranks.tp, all, blocks, "test");
    for (std::int64_t row = 0; row < 9; ++row) {
      for (std::int64_t c = 0; c < 5; ++c) {
        EXPECT_EQ(all.row(row)[c], value_at(row, c));
      }
    }
  });
}

TEST(TpGather, ColumnBlocksMeetInRowsWithAStride) {
  const std::vector<Range> blocks{{0, 4}, {4, 6}, {6, 6}, {6, 7}};
  for (const std::int64_t rows : {0, 1, 3}) {
    run_ranks({.ring = 1, .tp = 4}, [&](Ranks& ranks) {
      std::vector<float> memory(static_cast<std::size_t>(rows * 10), -1.0F);
      const Rows<float> all{memory.data(), rows, 7, 10};
      const Range own = blocks[static_cast<std::size_t>(ranks.tp->rank())];
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t c = own.first; c < own.end; ++c) {
          all.row(row)[c] = value_at(row, c);
        }
      }
      std::vector<float> staging;
      gather_column_blocks(
          *ranks.tp, all, blocks,
          [&](std::int64_t r, std::int64_t c) {
            staging.resize(static_cast<std::size_t>(r * c));
            return Rows<float>{staging.data(), r, c};
          },
          "test");
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t c = 0; c < 7; ++c) {
          EXPECT_EQ(all.row(row)[c], value_at(row, c));
        }
        EXPECT_EQ(all.row(row)[7], -1.0F) << "wrote beyond the columns";
      }
    });
  }
}

TEST(TpGather, OneRankSendsNothing) {
  Ranks ranks = self_ranks();
  float value = 3;
  const std::vector<Range> blocks{{0, 1}};
  gather_row_blocks(*ranks.tp, {&value, 1, 1}, blocks, "test");
  gather_column_blocks(
      *ranks.tp, {&value, 1, 1}, blocks,
      [](std::int64_t, std::int64_t) -> Rows<float> { throw std::runtime_error("asked for memory"); }, "test");
  EXPECT_EQ(value, 3);
  EXPECT_EQ(ranks.tp->traffic().bytes, 0U);
}

}  // namespace
}  // namespace zoetrope
