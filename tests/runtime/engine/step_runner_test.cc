// The whole table of docs/one-answer.md over ranks that are threads: random sequences in every layout.
#include "runtime/engine/step_runner.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <utility>

#include "tests/runtime/engine/sequences_suite.h"

namespace zoetrope::test {
namespace {

// Twelve pages with a ragged tail, so that members of wide rings have one page or none; beside it one that is shorter
// than a page and one token alone.
const std::vector<Length> kLengths{{2890, 4}, {700, 3}, {130, 5}, {1, 2}};

void expect_layouts(const std::string& checkpoint, const std::vector<std::pair<Layout, int>>& layouts) {
  int turn = 0;
  for (const auto& [layout, expert_groups] : layouts) {
    Way how = way(layout, static_cast<int>(std::bit_floor(static_cast<unsigned>(layout.ring))));
    how.expert_groups = expert_groups;
    // What else may vary goes round with the layouts.
    how.precision = turn % 2 == 0 ? Precision::kBf16 : Precision::kFp32;
    how.transport = turn / 2 % 2 == 0 ? RingTransport::kMessages : RingTransport::kShared;
    how.pass =
        std::array{RingPass::kQueries, RingPass::kPages, RingPass::kFewestBytes}[static_cast<std::size_t>(turn % 3)];
    ++turn;
    expect_bits_of_one(run_ranks, checkpoint, how, kLengths);
    if (testing::Test::HasFailure()) {
      return;
    }
  }
}

TEST(StepRunner, OneAnswerInEveryLayoutOfADenseModel) {
  std::vector<std::pair<Layout, int>> layouts;
  for (const int ring : {1, 2, 4, 8, 16}) {
    for (const int tp : {1, 2, 4}) {
      for (const int pp : {1, 2, 4}) {
        if (const Layout layout{.ring = ring, .tp = tp, .pp = pp}; layout.ranks() > 1 && layout.ranks() <= 32) {
          layouts.emplace_back(layout, 0);
        }
      }
    }
  }
  expect_layouts("tiny-dense", layouts);
}

// As many members as there are classes of pages, the most that a span has: each with pages of its own, one class each.
TEST(StepRunner, OneAnswerOverSixtyFourMembers) {
  const std::vector<Length> lengths{{66 * 256 + 17, 3}, {700, 3}};
  for (const RingPass pass : {RingPass::kPages, RingPass::kQueries}) {
    Way how = way({.ring = 64, .tp = 1}, 64);
    how.pass = pass;
    how.transport = RingTransport::kMessages;
    how.limits.pages_per_member = 4;
    how.limits.chunk_tokens_max = 8192;
    expect_bits_of_one(run_ranks, "tiny-dense", how, lengths);
  }
}

// Eight experts: a stage has up to eight ranks with whole ones and up to sixteen with halves.
TEST(StepRunner, OneAnswerInEveryLayoutOfAMixtureOfExperts) {
  std::vector<std::pair<Layout, int>> layouts;
  for (const int ring : {1, 2, 4, 8, 16}) {
    for (const int tp : {1, 2, 4}) {
      for (const int pp : {1, 2, 5}) {
        const Layout layout{.ring = ring, .tp = tp, .pp = pp};
        if (layout.ranks() == 1 || layout.ranks() > 32) {
          continue;
        }
        if (layout.stage_ranks() <= 8) {
          layouts.emplace_back(layout, 0);
        }
        if (layout.stage_ranks() >= 2 && layout.stage_ranks() <= 16) {
          layouts.emplace_back(layout, layout.stage_ranks() / 2);
        }
      }
    }
  }
  expect_layouts("tiny-moe", layouts);
}

TEST(StepRunner, OneAnswerInLayoutsOfFp8Experts) {
  expect_layouts("tiny-moe-fp8",
                 {{{2, 1}, 0}, {{4, 1}, 0}, {{2, 2}, 0}, {{2, 1, 2}, 0}, {{2, 2, 2}, 0}, {{3, 1}, 0}, {{4, 1, 4}, 0}});
}

TEST(StepRunner, OneAnswerInSpansThatGrow) {
  for (const Layout layout :
       {Layout{2, 1}, Layout{4, 1}, Layout{2, 2}, Layout{2, 1, 2}, Layout{4, 1, 2}, Layout{4, 2}}) {
    check_growths(run_ranks, layout);
  }
}

}  // namespace
}  // namespace zoetrope::test
