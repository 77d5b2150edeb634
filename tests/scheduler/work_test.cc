#include "scheduler/work.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

constexpr std::int64_t kChunk = 1024;

// What one member of a span saves of the work of one alone, in a prefill or in a token behind it.
double saved(const WorkModel& work, int members, std::int64_t first, std::int64_t rows) {
  return 1 - work.of_span(members, first, rows, kChunk) / work.of_span(1, first, rows, kChunk);
}

TEST(WorkModel, MembersShareAPrefillWhereNothingTravels) {
  const WorkModel work{.row = 500};
  EXPECT_EQ(work.of_span(1, 1000, 2048, kChunk), static_cast<double>(work.of_rows(1000, 2048)));
  for (const int members : {2, 4, 8, 64}) {
    EXPECT_NEAR(saved(work, members, 0, 1 << 16), 1 - 1.0 / members, 1e-9) << members;
  }
  // Runs of 32 rows: the busiest of two has 32 of 33, and a single row's arithmetic is not cut, only its context.
  EXPECT_EQ(work.of_span(2, 0, 33, kChunk), 32 * 500 + 33 * 34 / 2 / 2.0);
  EXPECT_EQ(work.of_span(4, 4095, 1, kChunk), 500 + 4096 / 4);
}

TEST(WorkModel, ExpertsAreServedByAllWhereverARowIs) {
  const WorkModel dense{.row = 5000}, experts{.row = 5000, .row_served = 4000, .servers = 2};
  EXPECT_NEAR(saved(dense, 2, 0, 2047), 0.5, 1e-3);
  EXPECT_NEAR(saved(experts, 2, 0, 2047), (1000 + 1024) / 2.0 / (1000 + 2000 + 1024), 1e-3);
}

TEST(WorkModel, WhatTravelsIsTheCheaperOfPagesAndRows) {
  const WorkModel pages{.row = 500, .page_visit = 1000, .row_visit = 1 << 20};
  const WorkModel rows{.row = 500, .page_visit = 1 << 20, .row_visit = 1000};
  // A token behind 100 pages: half of them visit, or one row does. Its context is cut only by the second.
  EXPECT_NEAR(pages.of_span(2, 25599, 1, kChunk), 500 + 25600 + 50 * 1000, 3);
  EXPECT_NEAR(rows.of_span(2, 25599, 1, kChunk), 500 + 25600 / 2 + 1000, 3);
  // A prefill of four steps of 2,048 rows, which see 4, 12, 20 and 28 pages in their middle and 8 more at their end.
  const double alone = static_cast<double>(pages.of_rows(0, 8192));
  EXPECT_NEAR(pages.of_span(2, 0, 8192, kChunk), alone / 2 + (8 + 16 + 24 + 32) / 2 * 1000, 1);
  EXPECT_NEAR(rows.of_span(2, 0, 8192, kChunk), alone / 2 + 4096 * 1000, 1);
}

TEST(WorkModel, ARowAloneInItsStepCostsMore) {
  const WorkModel work{.row = 500, .lone_row = 3, .lone_reading = 12};
  EXPECT_EQ(work.of_span(1, 4095, 1, kChunk), 12 * 500 + 3 * 4096);
  EXPECT_EQ(work.of_span(4, 4095, 1, kChunk), 12 * 500 + 3 * 4096 / 4);
  EXPECT_EQ(work.of_span(1, 0, 1000, kChunk), static_cast<double>(work.of_rows(0, 1000)));
}

TEST(WorkModel, EveryStepWaitsForMessages) {
  const WorkModel work{.row = 500, .shared = true, .page_visit = 1 << 20, .exchange = 70000};
  EXPECT_EQ(work.of_span(2, 0, 8192, kChunk), static_cast<double>(work.of_rows(0, 8192)) / 2 + 4 * 70000)
      << "pages that members see cost a fence";
  const WorkModel apart{.row = 500, .row_visit = 1 << 20, .exchange = 70000};
  EXPECT_NEAR(apart.of_span(2, 0, 8192, kChunk), static_cast<double>(apart.of_rows(0, 8192)) / 2 + 4 * 2 * 70000, 1);
  const WorkModel rows{.row = 500, .page_visit = 1 << 30, .exchange = 70000};
  EXPECT_EQ(rows.of_span(2, 0, 8192, kChunk), static_cast<double>(rows.of_rows(0, 8192)) / 2 + (4 + 4 * 4 * 2) * 70000)
      << "four rounds of 256 rows a step";
  EXPECT_LT(saved(work, 2, 8192, 1), 0) << "a token behind a short prompt is better alone";
  EXPECT_GT(saved(work, 2, 1 << 20, 1), 0) << "behind a million it is not";
}

}  // namespace
}  // namespace zoetrope
