#include "kernels/router.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/golden_folder.h"
#include "tests/kernels/row_bodies.h"
#include "tests/safetensors_file.h"

namespace zoetrope {
namespace {

using test::normals;

struct Chosen {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
  std::int64_t ties = 0;
};

Chosen choose(const Compute& on, const std::vector<float>& logits, std::int64_t rows, std::int64_t k) {
  Chosen c{std::vector<std::int32_t>(static_cast<std::size_t>(rows * k)),
           std::vector<float>(static_cast<std::size_t>(rows * k))};
  c.ties = choose_experts(on, {logits.data(), rows, static_cast<std::int64_t>(logits.size()) / rows},
                          {c.experts.data(), rows, k}, {c.weights.data(), rows, k});
  return c;
}

TEST(ChooseExperts, TakesTheLargestAndWeighsThemToOne) {
  struct Size {
    std::int64_t experts, k;
  };
  for (const Size& size : {Size{1, 1}, Size{6, 2}, Size{8, 8}, Size{17, 3}, Size{128, 8}, Size{512, 10}}) {
    const std::int64_t rows = 300;
    auto logits = normals(rows * size.experts, 3, 2.0f);
    test::round_all(logits);
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      Chosen last;
      const auto weights = test::same_on_all_ways(precision, [&](const Compute& on) {
        last = choose(on, logits, rows, size.k);
        return last.weights;
      });
      const auto experts = test::same_on_all_ways(
          precision, [&](const Compute& on) { return choose(on, logits, rows, size.k).experts; });
      std::int64_t ties = 0;
      for (std::int64_t t = 0; t < rows; ++t) {
        const float* row = logits.data() + t * size.experts;
        std::vector<std::int32_t> order(static_cast<std::size_t>(size.experts));
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
        ties += size.k < size.experts && row[order[size.k - 1]] == row[order[size.k]] ? 1 : 0;
        double total = 0.0;
        for (std::int64_t j = 0; j < size.k; ++j) {
          ASSERT_EQ(experts[t * size.k + j], order[j]) << "row " << t;
          total += std::exp(static_cast<double>(row[order[j]] - row[order[0]]));
        }
        for (std::int64_t j = 0; j < size.k; ++j) {
          const double expected = std::exp(static_cast<double>(row[order[j]] - row[order[0]])) / total;
          ASSERT_NEAR(weights[t * size.k + j], expected, 3e-7);
        }
      }
      EXPECT_EQ(last.ties, ties);
    }
  }
}

TEST(ChooseExperts, EqualOnesGoToTheLowerIndexAndAreCounted) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  const std::vector<float> logits{0, 1, 0, 2, 0, 1,   // the cut falls between the two ones: no tie across it
                                  5, 5, 5, 5, 5, 5,   // all equal
                                  9, 1, 9, 1, 1, 9};  // 9 9 9 then 1 1 1: the cut lies between equal ones
  const Chosen c = choose(on.compute, logits, 3, 3);
  EXPECT_EQ(c.experts, (std::vector<std::int32_t>{3, 1, 5, 0, 1, 2, 0, 2, 5}));
  EXPECT_EQ(c.ties, 1);
  const Chosen two = choose(on.compute, logits, 3, 2);
  EXPECT_EQ(two.experts, (std::vector<std::int32_t>{3, 1, 0, 1, 0, 2}));
  EXPECT_EQ(two.ties, 3);
}

TEST(ChooseExperts, BrokenLogitsStillGiveDifferentExperts) {
  const float nan = std::nanf("");
  const test::OnWay on({best_body(), 1, Precision::kFp32, ""});
  const std::vector<float> logits{nan, nan, nan, nan, nan, 1, 2, nan};
  const Chosen c = choose(on.compute, logits, 2, 3);
  for (int t = 0; t < 2; ++t) {
    std::vector<std::int32_t> row(c.experts.begin() + 3 * t, c.experts.begin() + 3 * t + 3);
    std::sort(row.begin(), row.end());
    EXPECT_EQ(std::unique(row.begin(), row.end()), row.end());
    EXPECT_TRUE(row.front() >= 0 && row.back() < 4);
  }
}

TEST(ChooseExperts, AgreesWithTheLibrary) {
  const auto folder = test::golden_folder() / "cases" / "tiny-moe";
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!std::filesystem::exists(entry.path() / "case.safetensors")) {
      continue;
    }
    const test::SafetensorsFile file(entry.path() / "case.safetensors");
    for (int layer = 0; file.has("router." + std::to_string(layer) + ".logits"); ++layer) {
      const std::string name = "router." + std::to_string(layer) + ".";
      const auto logits = file.data<float>(name + "logits");
      const auto rows = file.shape(name + "logits")[0];
      const auto k = file.shape(name + "experts")[1];
      const test::OnWay on({best_body(), 1, Precision::kFp32, ""});
      const Chosen c = choose(on.compute, logits, rows, k);
      EXPECT_EQ(c.experts, file.data<std::int32_t>(name + "experts")) << entry.path() << " layer " << layer;
      const auto expected = file.data<float>(name + "weights");
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(c.weights[i], expected[i], 3e-7);
      }
      ++cases;
    }
  }
  EXPECT_GT(cases, 0) << "no router values below " << folder;
}

TEST(CombineExperts, SumsInAscendingExpertIndex) {
  const std::int64_t tokens = 40, k = 5;
  for (const std::int64_t columns : test::kWidths) {
    auto y = normals(tokens * k * columns, 2);
    test::round_all(y);
    auto weights = normals(tokens * k, 3);
    test::round_all(weights);
    std::vector<std::int32_t> slots(static_cast<std::size_t>(tokens * k));
    std::iota(slots.begin(), slots.end(), 0);
    std::mt19937 random(9);
    std::shuffle(slots.begin(), slots.end(), random);
    std::vector<std::int32_t> experts;
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::vector<std::int32_t> all(32);
      std::iota(all.begin(), all.end(), 0);
      std::shuffle(all.begin(), all.end(), random);
      experts.insert(experts.end(), all.begin(), all.begin() + k);
    }
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const auto found = test::same_on_all_ways(precision, [&](const Compute& on) {
        std::vector<float> out(static_cast<std::size_t>(tokens * columns));
        combine_experts(on, {y.data(), tokens * k, columns}, {slots.data(), tokens, k}, {experts.data(), tokens, k},
                        {weights.data(), tokens, k}, {out.data(), tokens, columns});
        return out;
      });
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t j = 0; j < columns; ++j) {
          float total = 0.0f;
          for (std::int32_t e = 0; e < 32; ++e) {
            for (std::int64_t i = t * k; i < (t + 1) * k; ++i) {
              if (experts[i] == e) {
                total += y[slots[i] * columns + j] * weights[i];
              }
            }
          }
          ASSERT_EQ(found[t * columns + j], total);
        }
      }
    }
  }
}

}  // namespace
}  // namespace zoetrope
