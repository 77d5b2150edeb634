#include "tests/parallel/hand_over_suite.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "parallel/collectives.h"
#include "parallel/hand_over.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kColumns = 96;
constexpr std::int64_t kRowsMax = 700;  // 268,800 bytes: MPI sends as much only to a receiver that is ready

// What stage `stage` makes of a value.
float after(int stage, float value) { return value * 1.5f + static_cast<float>(stage); }

float value_at(const Place& place, int wave, std::int64_t row, std::int64_t column) {
  return static_cast<float>((wave * 37 + row * 5 + column * 11 + place.member * 3 + place.tp_index) % 64);
}

}  // namespace

void check_hand_over(Ranks& ranks, bool shared) {
  HandOver pipe(ranks, kColumns, shared ? kRowsMax : 0);
  EXPECT_EQ(pipe.shares_with_next(), shared && !ranks.last_stage());
  EXPECT_EQ(pipe.shares_with_previous(), shared && !ranks.first_stage());
  const std::vector<std::vector<std::int64_t>> steps{
      {5}, {700, 1, 0, 699, 64, 701, 1500, 20}, {0, 0, 3}, {1, 1, 1, 1, 1, 1, 1, 1}, {0}, {300, 200}};
  int wave = 0;
  for (const auto& step : steps) {
    for (std::size_t i = 0; i < step.size(); ++i, ++wave) {
      if ((wave * 7 + ranks.place.stage * 3) % 5 == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));  // who is ahead changes
      }
      const Rows<float> rows = pipe.begin(step[i], i + 1 < step.size() ? step[i + 1] : 0);
      ASSERT_EQ(rows.rows, step[i]);
      ASSERT_EQ(rows.columns, kColumns);
      int wrong = 0;
      for (std::int64_t r = 0; r < rows.rows; ++r) {
        for (std::int64_t c = 0; c < kColumns; ++c) {
          float expected = value_at(ranks.place, wave, r, c);
          for (int stage = 0; stage < ranks.place.stage; ++stage) {
            expected = after(stage, expected);
          }
          if (ranks.first_stage()) {
            rows.row(r)[c] = expected;
          }
          wrong += rows.row(r)[c] == expected ? 0 : 1;
          rows.row(r)[c] = after(ranks.place.stage, expected);
        }
        if (r % 100 == 0) {
          pipe.poll();
        }
      }
      EXPECT_EQ(wrong, 0) << "wave " << wave << " at stage " << ranks.place.stage;
      pipe.end(i + 1 == step.size());
    }
  }
}

void check_that_nobody_waits_for_a_listener(Ranks& ranks, bool shared) {
  using namespace std::chrono_literals;
  constexpr auto kDeaf = 300ms;
  HandOver pipe(ranks, kColumns, shared ? kRowsMax : 0);
  barrier(*ranks.world, "all are here");
  if (!ranks.first_stage()) {
    std::this_thread::sleep_for(kDeaf * ranks.place.stage);
  }
  const auto began = std::chrono::steady_clock::now();
  for (int wave = 0; wave < 3; ++wave) {
    pipe.begin(kRowsMax, wave < 2 ? kRowsMax : 0);
    if (wave == 2 && !ranks.last_stage()) {
      EXPECT_LT(std::chrono::steady_clock::now() - began, kDeaf / 2) << "stage " << ranks.place.stage;
    }
    pipe.end(wave == 2);
  }
}

}  // namespace zoetrope
