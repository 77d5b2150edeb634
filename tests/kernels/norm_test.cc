#include "kernels/norm.h"

#include <cmath>

#include "tests/kernels/row_bodies.h"

namespace zoetrope {
namespace {

using test::kWidths;
using test::normals;

constexpr float kEps = 1e-6f;

struct Case {
  std::int64_t rows;
  std::int64_t columns;
  std::vector<float> x, weight, bias;

  Case(std::int64_t rows_, std::int64_t columns_, float offset)
      : rows(rows_),
        columns(columns_),
        x(normals(rows * columns, 1, 3.0f)),
        weight(normals(columns, 2)),
        bias(normals(columns, 3)) {
    for (float& value : x) {
      value += offset;
    }
    test::round_all(x);
    test::round_all(weight);
    test::round_all(bias);
  }
};

// |found - expected| in units of the largest expected value.
double error(const std::vector<float>& found, const std::vector<double>& expected) {
  double worst = 0.0;
  double largest = 1e-30;
  for (std::size_t i = 0; i < found.size(); ++i) {
    worst = std::max(worst, std::fabs(static_cast<double>(found[i]) - expected[i]));
    largest = std::max(largest, std::fabs(expected[i]));
  }
  return worst / largest;
}

std::vector<double> rms_in_double(const Case& c, std::int64_t group) {
  std::vector<double> out(c.x.size());
  for (std::size_t first = 0; first < c.x.size(); first += static_cast<std::size_t>(group)) {
    double squares = 0.0;
    for (std::int64_t j = 0; j < group; ++j) {
      squares += static_cast<double>(c.x[first + j]) * c.x[first + j];
    }
    for (std::int64_t j = 0; j < group; ++j) {
      out[first + j] = c.weight[j] * (c.x[first + j] / std::sqrt(squares / static_cast<double>(group) + kEps));
    }
  }
  return out;
}

std::vector<double> layer_in_double(const Case& c) {
  std::vector<double> out(c.x.size());
  const auto n = static_cast<double>(c.columns);
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const float* x = c.x.data() + r * c.columns;
    double mean = 0.0, variance = 0.0;
    for (std::int64_t j = 0; j < c.columns; ++j) {
      mean += x[j] / n;
    }
    for (std::int64_t j = 0; j < c.columns; ++j) {
      variance += (x[j] - mean) * (x[j] - mean) / n;
    }
    for (std::int64_t j = 0; j < c.columns; ++j) {
      out[r * c.columns + j] = (x[j] - mean) / std::sqrt(variance + kEps) * c.weight[j] + c.bias[j];
    }
  }
  return out;
}

std::vector<float> run_rms(const Compute& compute, const Case& c) {
  std::vector<float> out(c.x.size());
  rms_norm(compute, {c.x.data(), c.rows, c.columns}, c.weight.data(), kEps, {out.data(), c.rows, c.columns});
  return out;
}

std::vector<float> run_layer(const Compute& compute, const Case& c) {
  std::vector<float> out(c.x.size());
  layer_norm(compute, {c.x.data(), c.rows, c.columns}, c.weight.data(), c.bias.data(), kEps,
             {out.data(), c.rows, c.columns});
  return out;
}

TEST(RmsNorm, AllWaysGiveTheBitsOfTheReferenceAndDoubleAgrees) {
  for (const std::int64_t columns : kWidths) {
    const Case c(37, columns, 0.5f);
    const auto fp32 = test::same_on_all_ways(Precision::kFp32, [&](const Compute& on) { return run_rms(on, c); });
    EXPECT_LT(error(fp32, rms_in_double(c, columns)), 5e-7) << columns;
    const auto bf16 = test::same_on_all_ways(Precision::kBf16, [&](const Compute& on) { return run_rms(on, c); });
    EXPECT_TRUE(test::same_bits(bf16, fp32)) << columns;  // norms are fp32 in both modes
  }
}

TEST(RmsNorm, ScalesBeforeTheWeight) {
  const Case c(1, 16, 0.0f);
  float lane[16];  // one column each; they meet in four halvings
  for (int j = 0; j < 16; ++j) {
    lane[j] = c.x[j] * c.x[j];
  }
  for (int width = 8; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) {
      lane[j] += lane[j + width];
    }
  }
  const float r = 1.0f / std::sqrt(lane[0] / 16.0f + kEps);
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  const std::vector<float> out = run_rms(on.compute, c);
  int other_order_differs = 0;
  for (int j = 0; j < 16; ++j) {
    EXPECT_EQ(out[j], c.weight[j] * (c.x[j] * r));
    other_order_differs += out[j] != (c.weight[j] * c.x[j]) * r ? 1 : 0;
  }
  EXPECT_GT(other_order_differs, 0);
}

TEST(RmsNorm, ARowDoesNotKnowItsNeighboursAndMayBeNormalisedInPlace) {
  const Case c(64, 2048, 0.0f);
  const test::OnWay on({best_body(), 2, Precision::kBf16, ""});
  const std::vector<float> all = run_rms(on.compute, c);
  std::vector<float> row(c.x.begin() + 2048 * 41, c.x.begin() + 2048 * 42);
  rms_norm(on.compute, {row.data(), 1, 2048}, c.weight.data(), kEps, {row.data(), 1, 2048});
  EXPECT_TRUE(test::same_bits(row, std::vector<float>(all.begin() + 2048 * 41, all.begin() + 2048 * 42)));
}

TEST(RmsNorm, ReadsAndWritesRowsWithAStride) {
  const Case c(5, 33, 0.0f);
  const test::OnWay on({best_body(), 1, Precision::kFp32, ""});
  const std::vector<float> expected = run_rms(on.compute, c);
  std::vector<float> wide(5 * 50, -7.0f);
  for (int r = 0; r < 5; ++r) {
    std::copy_n(c.x.data() + r * 33, 33, wide.data() + r * 50);
  }
  rms_norm(on.compute, {wide.data(), 5, 33, 50}, c.weight.data(), kEps, {wide.data(), 5, 33, 50});
  for (int r = 0; r < 5; ++r) {
    EXPECT_EQ(std::memcmp(wide.data() + r * 50, expected.data() + r * 33, 33 * sizeof(float)), 0);
    for (int j = 33; j < 50; ++j) {
      EXPECT_EQ(wide[r * 50 + j], -7.0f);  // nothing beyond the row is touched
    }
  }
}

TEST(HeadRmsNorm, NormalisesEachHeadByItself) {
  for (const int head_dim : {32, 24, 128}) {
    const Case c(19, 6 * head_dim, 0.25f);
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const auto found = test::same_on_all_ways(precision, [&](const Compute& on) {
        std::vector<float> x = c.x;
        head_rms_norm(on, {x.data(), c.rows, c.columns}, head_dim, c.weight.data(), kEps);
        return x;
      });
      EXPECT_LT(error(found, rms_in_double(c, head_dim)), 5e-7);
    }
  }
}

TEST(LayerNorm, AllWaysGiveTheBitsOfTheReferenceAndDoubleAgrees) {
  for (const std::int64_t columns : kWidths) {
    const Case c(37, columns, 0.5f);
    const auto fp32 = test::same_on_all_ways(Precision::kFp32, [&](const Compute& on) { return run_layer(on, c); });
    EXPECT_LT(error(fp32, layer_in_double(c)), 2e-6) << columns;
    const auto bf16 = test::same_on_all_ways(Precision::kBf16, [&](const Compute& on) { return run_layer(on, c); });
    EXPECT_TRUE(test::same_bits(bf16, fp32)) << columns;
  }
}

TEST(NormDeathTest, RefusesShapesThatDoNotFit) {
  const Case c(2, 32, 0.0f);
  const test::OnWay on({best_body(), 1, Precision::kFp32, ""});
  std::vector<float> out(64);
  EXPECT_DEATH(rms_norm(on.compute, {c.x.data(), 2, 32}, c.weight.data(), kEps, {out.data(), 2, 31}), "columns");
  EXPECT_DEATH(head_rms_norm(on.compute, {out.data(), 2, 32}, 24, c.weight.data(), kEps), "groups");
}

}  // namespace
}  // namespace zoetrope
