#include "parallel/layout.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

TEST(LayoutTest, TpIsFastest) {
  const Layout layout{.ring = 3, .tp = 2, .pp = 2};
  EXPECT_EQ(layout.ranks(), 12);
  EXPECT_EQ(layout.stage_ranks(), 6);
  for (int rank = 0; rank < 12; ++rank) {
    const Place place = place_of(layout, rank);
    EXPECT_EQ(place.rank, rank);
    EXPECT_EQ(place.stage, rank / 6);
    EXPECT_EQ(place.member, rank % 6 / 2);
    EXPECT_EQ(place.tp_index, rank % 2);
    EXPECT_EQ(rank_of(layout, place.stage, place.member, place.tp_index), rank);
  }
  EXPECT_EQ(described(layout), "pp 2 x ring 3 x tp 2");
  EXPECT_EQ(described({.ring = 3, .tp = 2}), "ring 3 x tp 2");
  EXPECT_DEATH(place_of(layout, 12), "rank");
  EXPECT_DEATH(rank_of(layout, 0, 0, 2), "tp index");
  EXPECT_DEATH(rank_of(layout, 2, 0, 0), "stage");
}

TEST(LayoutTest, DealtRangesTileAndDifferByOne) {
  for (const std::int64_t total : {0, 1, 5, 7, 8, 1000}) {
    for (int parts = 1; parts <= 9; ++parts) {
      std::int64_t next = 0;
      for (int i = 0; i < parts; ++i) {
        const Range range = dealt(total, i, parts);
        EXPECT_EQ(range.first, next);
        EXPECT_GE(range.count(), total / parts);
        EXPECT_LE(range.count(), total / parts + 1);
        next = range.end;
      }
      EXPECT_EQ(next, total);
    }
  }
  EXPECT_EQ(dealt(INT64_MAX, 1, 2).end, INT64_MAX);  // nothing overflows on the way
}

}  // namespace
}  // namespace zoetrope
