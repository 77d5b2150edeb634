#include "kernels/candidates.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/body_table.h"
#include "tests/kernels/row_bodies.h"

namespace zoetrope {
namespace {

const RowBody& row() { return body(best_body()).row; }

using Ids = std::vector<std::int32_t>;

Candidates of_top_k(std::span<const float> logits, std::int64_t k) {
  Candidates c;
  c.ids = {7, 8};  // what a row before left behind
  c.logits = {1.0f, 2.0f};
  c.weights = {1.0f};
  top_k(row(), logits, k, c);
  return c;
}

TEST(TopK, KeepsEverythingEqualToTheKth) {
  const std::vector<float> logits{1, 3, 2, 2, 0, 2, -1};
  EXPECT_EQ(of_top_k(logits, 1).ids, (Ids{1}));
  EXPECT_EQ(of_top_k(logits, 2).ids, (Ids{1, 2, 3, 5}));
  EXPECT_EQ(of_top_k(logits, 5).ids, (Ids{0, 1, 2, 3, 5}));
  EXPECT_EQ(of_top_k(logits, 0).ids.size(), 7U);
  EXPECT_EQ(of_top_k(logits, 99).ids.size(), 7U);
  const Candidates c = of_top_k(logits, 2);
  EXPECT_EQ(c.weights[0], 1.0f);
  EXPECT_NEAR(c.weights[1], std::exp(-1.0), 1e-7);
}

// The definition, by sorting: ascending, drop while the weight gone by is at most 1 - p of the whole; the last stays.
Ids top_p_by_sorting(const Candidates& c, double p) {
  std::vector<std::size_t> order(c.ids.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return c.logits[a] < c.logits[b]; });
  double total = 0.0;
  for (const float w : c.weights) {
    total += w;
  }
  double gone = 0.0;
  Ids kept;
  for (const std::size_t i : order) {
    gone += c.weights[i];
    if (gone > (1.0 - p) * total || i == order.back()) {
      kept.push_back(c.ids[i]);
    }
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

TEST(TopP, IsWhatSortingGives) {
  for (const std::int64_t n : {1, 2, 20, 300, 30000}) {
    for (const float scale : {0.01f, 1.0f, 6.0f}) {
      auto logits = test::normals(n, 11, scale);
      for (const double p : {1e-9, 0.1, 0.5, 0.8, 0.95, 0.9999}) {
        Candidates c = of_top_k(logits, 0);
        const Ids expected = top_p_by_sorting(c, p);
        keep_top_p(row(), c, p);
        EXPECT_EQ(c.ids, expected) << n << " " << scale << " " << p;
        ASSERT_EQ(c.ids.size(), c.weights.size());
        ASSERT_EQ(c.ids.size(), c.logits.size());
      }
    }
  }
}

TEST(TopP, DropsTheLowerOfEqualIdsFirst) {
  Candidates c = of_top_k(std::vector<float>{2, 2, 2, 2}, 0);
  keep_top_p(row(), c, 0.6);
  EXPECT_EQ(c.ids, (Ids{1, 2, 3}));
  keep_top_p(row(), c, 0.0);
  EXPECT_EQ(c.ids, (Ids{3}));
}

TEST(TopP, MinusZeroEqualsZero) {
  Candidates c = of_top_k(std::vector<float>{0.0f, -0.0f, -0.0f, 0.0f}, 0);
  keep_top_p(row(), c, 0.5);
  EXPECT_EQ(c.ids, (Ids{2, 3}));
}

TEST(MinP, ComparesWithTheHeaviest) {
  Candidates c = of_top_k(std::vector<float>{0, std::log(2.0f), -1, -5}, 0);
  keep_min_p(c, 0.2);
  EXPECT_EQ(c.ids, (Ids{0, 1}));
  keep_min_p(c, 1.0);
  EXPECT_EQ(c.ids, (Ids{1}));
}

TEST(SliceMasses, SplitTheWeightBySlice) {
  const auto logits = test::normals(1001, 3);
  const Candidates c = of_top_k(logits, 400);
  const SliceMasses masses = slice_masses(c);
  EXPECT_EQ(masses.first[0], 0U);
  EXPECT_EQ(masses.first[kVocabularySlices], c.ids.size());
  for (std::size_t s = 0; s < kVocabularySlices; ++s) {
    double mass = 0.0;
    for (std::size_t i = masses.first[s]; i < masses.first[s + 1]; ++i) {
      EXPECT_GE(c.ids[i], static_cast<std::int32_t>(vocabulary_slice(1001, s)));
      EXPECT_LT(c.ids[i], static_cast<std::int32_t>(vocabulary_slice(1001, s + 1)));
      mass += c.weights[i];
    }
    EXPECT_EQ(masses.mass[s], mass);
  }
}

}  // namespace
}  // namespace zoetrope
