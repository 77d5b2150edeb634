#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/kernels/row_bodies.h"

namespace zoetrope {
namespace {

using test::bf16_normals;
using test::kWidths;
using test::normals;

constexpr Precision kPrecisions[] = {Precision::kFp32, Precision::kBf16};

TEST(AddRows, AddsInFp32InBothModes) {
  for (const Precision precision : kPrecisions) {
    for (const std::int64_t columns : kWidths) {
      const std::int64_t rows = 21;
      const auto h = normals(rows * columns, 1);
      const auto x = normals(rows * columns, 2);
      const auto found = test::same_on_all_ways(precision, [&](const Compute& on) {
        std::vector<float> sum = h;
        add_rows(on, {sum.data(), rows, columns}, {x.data(), rows, columns});
        return sum;
      });
      for (std::size_t i = 0; i < h.size(); ++i) {
        ASSERT_EQ(found[i], h[i] + x[i]);
      }
    }
  }
}

TEST(AddSelectedRows, AddsToTheNamedRowsOnly) {
  const std::int64_t columns = 130;
  const auto h = normals(300 * columns, 1);
  std::vector<std::int64_t> chosen;
  for (std::int64_t r = 299; r >= 0; r -= 2) {
    chosen.push_back(r);
  }
  const auto x = normals(static_cast<std::int64_t>(chosen.size()) * columns, 2);
  const auto found = test::same_on_all_ways(Precision::kBf16, [&](const Compute& on) {
    std::vector<float> sum = h;
    add_selected_rows(on, {sum.data(), 300, columns}, chosen,
                      {x.data(), static_cast<std::int64_t>(chosen.size()), columns});
    return sum;
  });
  std::vector<float> expected = h;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      float& value = expected[static_cast<std::size_t>(chosen[i] * columns + j)];
      value = value + x[i * columns + j];
    }
  }
  EXPECT_TRUE(test::same_bits(found, expected));
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  std::vector<float> sum = h;
  const std::vector<std::int64_t> twice{4, 4};
  EXPECT_DEATH(add_selected_rows(on.compute, {sum.data(), 300, columns}, twice, {x.data(), 2, columns}), "twice");
}

TEST(Gelu, BothFormsFollowTheirEquationsInBothModes) {
  struct Form {
    void (*op)(const Compute&, Rows<float>);
    double (*expected)(double);
  };
  const Form forms[] = {
      {gelu_tanh, [](double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }},
      {gelu_erf, [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }}};
  for (const Form& form : forms) {
    for (const std::int64_t columns : kWidths) {
      const std::int64_t rows = 23;
      const auto x = normals(rows * columns, 5, 2.0f);
      const auto run = [&](const Compute& on) {
        std::vector<float> y = x;
        form.op(on, {y.data(), rows, columns});
        return y;
      };
      const auto fp32 = test::same_on_all_ways(Precision::kFp32, run);
      for (std::size_t i = 0; i < x.size(); ++i) {
        ASSERT_NEAR(fp32[i], form.expected(x[i]), 5e-7) << x[i];
      }
      EXPECT_TRUE(test::same_bits(test::same_on_all_ways(Precision::kBf16, run), fp32));
    }
  }
}

TEST(Embed, WidensTheRowOfEachId) {
  for (const std::int64_t columns : kWidths) {
    const auto table = bf16_normals(40 * columns, 4);
    const std::vector<std::int32_t> ids{0, 39, 7, 7, 12};
    const auto found = test::same_on_all_ways(Precision::kBf16, [&](const Compute& on) {
      std::vector<float> out(ids.size() * static_cast<std::size_t>(columns), -1.0f);
      embed(on, {table.data(), 40, columns}, ids, {out.data(), 5, columns});
      return out;
    });
    for (std::size_t i = 0; i < ids.size(); ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        ASSERT_EQ(found[i * columns + j], from_bf16(table[ids[i] * columns + j]));
      }
    }
  }
}

TEST(Embed, KeepsMinusZeroAndDiesOnAnUnknownId) {
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  const std::vector<Bf16> table{0x8000, 0x3f80};
  float out = 1.0f;
  const std::vector<std::int32_t> first{0};
  embed(on.compute, {table.data(), 2, 1}, first, {&out, 1, 1});
  EXPECT_EQ(out, 0.0f);
  EXPECT_TRUE(std::signbit(out));
  const std::vector<std::int32_t> beyond{2};
  EXPECT_DEATH(embed(on.compute, {table.data(), 2, 1}, beyond, {&out, 1, 1}), "token id");
}

// Reference 3.5 in double, raster order, with the weights the fp32 arithmetic would give up to its rounding.
double position_in_double(const std::vector<Bf16>& table, int side, std::int64_t columns, double u, double v,
                          std::int64_t j) {
  const int r0 = static_cast<int>(u), c0 = static_cast<int>(v);
  const int r1 = std::min(r0 + 1, side - 1), c1 = std::min(c0 + 1, side - 1);
  const double dr = u - r0, dc = v - c0;
  const auto at = [&](int r, int c) { return static_cast<double>(from_bf16(table[(r * side + c) * columns + j])); };
  return (at(r0, c0) * (1 - dc) + at(r0, c1) * dc) * (1 - dr) + (at(r1, c0) * (1 - dc) + at(r1, c1) * dc) * dr;
}

TEST(InterpolatePositions, FollowsTheTableInMergeBlockOrder) {
  struct Frame {
    int side, gh, gw;
    std::int64_t columns;
  };
  for (const Frame& f : {Frame{8, 4, 6, 48}, Frame{48, 16, 10, 33}, Frame{12, 2, 2, 16}, Frame{8, 8, 8, 17}}) {
    const auto table = bf16_normals(f.side * f.side * f.columns, 6);
    const std::int64_t patches = f.gh * f.gw;
    for (const Precision precision : kPrecisions) {
      const auto found = test::same_on_all_ways(precision, [&](const Compute& on) {
        std::vector<float> out(static_cast<std::size_t>(patches * f.columns));
        interpolate_positions(on, {table.data(), f.side * f.side, f.columns}, f.side, f.gh, f.gw,
                              {out.data(), patches, f.columns});
        return out;
      });
      std::int64_t i = 0;  // blocks of 2 x 2, row by row
      for (int block_row = 0; block_row < f.gh; block_row += 2) {
        for (int block_column = 0; block_column < f.gw; block_column += 2) {
          for (int inside = 0; inside < 4; ++inside, ++i) {
            const double u = static_cast<double>(f.side - 1) * (block_row + inside / 2) / (f.gh - 1);
            const double v = static_cast<double>(f.side - 1) * (block_column + inside % 2) / (f.gw - 1);
            for (std::int64_t j = 0; j < f.columns; ++j) {
              ASSERT_NEAR(found[i * f.columns + j], position_in_double(table, f.side, f.columns, u, v, j), 5e-5);
            }
          }
        }
      }
      EXPECT_EQ(found[0], from_bf16(table[0]));  // corners are exact
      EXPECT_EQ(found.back(), from_bf16(table.back()));
    }
  }
}

TEST(InterpolatePositions, AddsTheCornersInOrder) {
  const auto table = bf16_normals(2 * 2, 8);
  std::vector<float> out(4 * 4);
  const test::OnWay on({best_body(), 1, Precision::kBf16, ""});
  interpolate_positions(on.compute, {table.data(), 4, 1}, 2, 4, 4, {out.data(), 16, 1});
  const float third = 1.0f / 3.0f;  // patch (1, 1): index 3 of the first block
  const float w[4] = {(1.0f - third) * (1.0f - third), (1.0f - third) * third, third * (1.0f - third), third * third};
  float e = 0.0f;
  for (int k = 0; k < 4; ++k) {
    const float term = from_bf16(table[k]) * w[k];
    e = k == 0 ? term : e + term;
  }
  EXPECT_EQ(out[3], e);
}

}  // namespace
}  // namespace zoetrope
