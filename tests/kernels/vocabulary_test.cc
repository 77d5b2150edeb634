#include "kernels/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "kernels/body_table.h"
#include "tests/kernels/row_bodies.h"

namespace zoetrope {
namespace {

const RowBody& row() { return body(best_body()).row; }

TEST(VocabularySlice, CoversEveryIdOnce) {
  for (const std::size_t vocabulary : {1U, 5U, 15U, 16U, 17U, 33U, 257U, 1536U, 151936U}) {
    EXPECT_EQ(vocabulary_slice(vocabulary, 0), 0U);
    EXPECT_EQ(vocabulary_slice(vocabulary, kVocabularySlices), vocabulary);
    for (std::size_t s = 0; s < kVocabularySlices; ++s) {
      EXPECT_LE(vocabulary_slice(vocabulary, s), vocabulary_slice(vocabulary, s + 1));
    }
  }
  EXPECT_EQ(vocabulary_slice(151936, 1), 9496U);
  EXPECT_EQ(vocabulary_slice(17, 8), 16U);  // slices of 2; the ninth holds one id, the others none
  EXPECT_EQ(vocabulary_slice(17, 9), 17U);
}

TEST(TreeSum, PairsNeighboursFirst) {
  std::array<double, kVocabularySlices> parts{};
  parts[0] = 1e16;
  parts[1] = 1.0;  // lost in the first pair
  parts[2] = 1.0;
  parts[3] = 1.0;  // together they count
  EXPECT_EQ(tree_sum(parts), 1e16 + 2.0);
}

TEST(LogNormaliser, AgreesWithDoubleAndDoesNotKnowTheBody) {
  for (const std::size_t vocabulary : {1U, 2U, 15U, 16U, 17U, 33U, 1000U, 20011U}) {
    const auto logits = test::normals(static_cast<std::int64_t>(vocabulary), 4, 5.0f);
    double total = 0.0;
    for (const float x : logits) {
      total += std::exp(static_cast<double>(x));
    }
    const float expected = LogNormaliser(body(BodyKind::kReference).row, logits).logprob(logits[0]);
    EXPECT_NEAR(expected, logits[0] - std::log(total), 2e-6) << vocabulary;
    for (const BodyKind kind : bodies_here()) {
      EXPECT_EQ(LogNormaliser(body(kind).row, logits).logprob(logits[0]), expected) << body_name(kind);
    }
  }
}

TEST(LogNormaliser, TakesLogitsFarApart) {
  const std::vector<float> logits{3.0e38f, -3.0e38f, 3.0e38f, 0.0f};
  const LogNormaliser normaliser(row(), logits);
  EXPECT_NEAR(normaliser.logprob(3.0e38f), -std::log(2.0), 1e-6);
  EXPECT_LT(normaliser.logprob(0.0f), -1e38f);
}

TEST(KthLargest, IsThatOfASort) {
  for (const std::int64_t n : {1, 7, 40, 600, 5000, 151936}) {
    auto x = test::normals(n, 6, 4.0f);
    if (n == 5000) {
      test::round_all(x);  // many equal ones
    }
    std::vector<float> sorted = x;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (const std::int64_t k :
         {std::int64_t{1}, std::int64_t{2}, std::int64_t{20}, std::int64_t{50}, std::int64_t{4000}, n}) {
      if (k <= n) {
        EXPECT_EQ(kth_largest(row(), x, k), sorted[static_cast<std::size_t>(k - 1)]) << n << " " << k;
      }
    }
  }
}

TEST(KthLargest, SurvivesEqualAndNegativeNumbers) {
  const std::vector<float> same(10000, -3.5f);
  EXPECT_EQ(kth_largest(row(), same, 20), -3.5f);
  std::vector<float> falling(10000);
  for (std::size_t i = 0; i < falling.size(); ++i) {
    falling[i] = -1.0f - static_cast<float>(i);
  }
  EXPECT_EQ(kth_largest(row(), falling, 20), -20.0f);
}

TEST(IdsAtLeast, AreIncreasingAndComplete) {
  const auto x = test::normals(1003, 8);
  for (const BodyKind kind : bodies_here()) {
    const auto ids = ids_at_least(body(kind).row, x, 0.5f);
    std::size_t next = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (x[i] >= 0.5f) {
        ASSERT_LT(next, ids.size());
        EXPECT_EQ(ids[next++], static_cast<std::int32_t>(i));
      }
    }
    EXPECT_EQ(next, ids.size());
  }
}

TEST(NaturalLog, IsWithinARoundingOfTheLibrary) {
  for (double x = 1e-30; x < 1e30; x *= 1.0137) {
    EXPECT_NEAR(natural_log(x), std::log(x), 4e-16 * std::max(1.0, std::fabs(std::log(x)))) << x;
  }
  EXPECT_EQ(natural_log(1.0), 0.0);
}

}  // namespace
}  // namespace zoetrope
