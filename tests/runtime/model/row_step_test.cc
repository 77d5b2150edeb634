#include "runtime/model/row_step.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "parallel/ranks.h"

namespace zoetrope {
namespace {

TEST(RowStep, RowsAreDealtWithoutGaps) {
  for (const int tp : {1, 2, 4}) {
    for (const std::int64_t rows : {0, 1, 3, 7}) {
      std::vector<Range> own(static_cast<std::size_t>(tp));
      run_ranks({.ring = 1, .tp = tp}, [&](Ranks& ranks) {
        const RowStep step = RowStep::of(rows, *ranks.tp);
        EXPECT_EQ(step.rows, rows);
        own[static_cast<std::size_t>(ranks.tp->rank())] = step.own;
      });
      std::int64_t next = 0;
      for (const Range& range : own) {
        EXPECT_EQ(range.first, next);
        next = range.end;
      }
      EXPECT_EQ(next, rows);
    }
  }
}

TEST(RowStep, AnObserverSeesAllRowsOfTheGroupOnEveryRank) {
  run_ranks({.ring = 1, .tp = 4}, [](Ranks& ranks) {
    const RowStep step = RowStep::of(6, *ranks.tp);
    std::vector<std::int32_t> own;
    for (std::int64_t row = step.own.first; row < step.own.end; ++row) {
      own.insert(own.end(), {static_cast<std::int32_t>(10 * row), static_cast<std::int32_t>(10 * row + 1)});
    }
    std::vector<float> seen;
    std::string name_seen;
    const Observer observer = [&](std::string_view name, Rows<const float> values) {
      name_seen = name;
      seen.assign(values.data, values.data + values.rows * values.columns);
    };
    observe_rows(observer, *ranks.tp, step, "chosen", Rows<const std::int32_t>{own.data(), step.own.count(), 2});
    EXPECT_EQ(name_seen, "chosen");
    EXPECT_EQ(seen, (std::vector<float>{0, 1, 10, 11, 20, 21, 30, 31, 40, 41, 50, 51}));
  });
}

TEST(RowStep, WithoutAnObserverNothingTravels) {
  run_ranks({.ring = 1, .tp = 2}, [](Ranks& ranks) {
    const RowStep step = RowStep::of(1, *ranks.tp);
    float value = 1;
    const auto before = ranks.tp->traffic().bytes;
    observe_rows({}, *ranks.tp, step, "h", Rows<const float>{&value, step.own.count(), 1});
    EXPECT_EQ(ranks.tp->traffic().bytes, before);
  });
}

}  // namespace
}  // namespace zoetrope
