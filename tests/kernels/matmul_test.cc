#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>

#include "tests/kernels/matmul_case.h"

namespace zoetrope {
namespace {

using test::Numbers;
using test::Order;
using test::Packed;
using test::Stored;

constexpr std::int64_t kRowCounts[] = {1, 2, 3, 4, 7, 8, 64, 511};
constexpr std::int64_t kRowsMax = 511;

ThreadPool& pool_of(int threads) {
  static std::unique_ptr<ThreadPool> pools[5];
  auto& pool = pools[threads];
  if (!pool) {
    pool = std::make_unique<ThreadPool>(threads);
  }
  return *pool;
}

Compute compute_with(BodyKind kind, int threads, Precision precision) {
  return {&body(kind), &pool_of(threads), precision};
}

// Coordinates of the first float whose bits differ, or an empty text.
std::string first_difference(const float* found, const float* expected, std::int64_t rows, std::int64_t columns) {
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    if (std::memcmp(found + i, expected + i, sizeof(float)) != 0) {
      return fmt::format("row {} column {}: {:a} against {:a}", i / columns, i % columns, found[i], expected[i]);
    }
  }
  return {};
}

struct Shape {
  std::int64_t n, k;
  int slices;
  WeightType type = WeightType::kBf16;
  bool input_major = false;
  std::int64_t input_origin = 0;
  std::int64_t output_origin = 0;
};

const Shape kShapes[] = {
    {1, 1, 1},
    {32, 2, 1},
    {33, 2, 2},
    {40, 37, 1},                           // odd inputs
    {31, 74, 2, WeightType::kBf16, true},  // odd slices
    {96, 300, 1, WeightType::kBf16, true},
    {70, 256, 2},
    {33, 528, 4},
    {32, 1032, 8, WeightType::kBf16, true},
    {64, 2, 1, WeightType::kF8E4M3},
    {45, 131, 1, WeightType::kF8E4M3},
    {144, 256, 1, WeightType::kF8E4M3, true},
    {80, 384, 2, WeightType::kF8E4M3, true},      // a slice of one and a half blocks
    {48, 128, 2, WeightType::kF8E4M3, true, 64},  // a shard that begins inside a block
    {64, 1024, 8, WeightType::kF8E4M3},
    {64, 96, 2, WeightType::kF8E4M3, false, 416, 96},
    {1040, 192, 8},
    {528, 36, 2},  // panels enough that few rows take several at once
    {528, 132, 1, WeightType::kF8E4M3},
};

std::string name_of(const Shape& s) {
  return fmt::format("N {} K {} slices {} {} {}", s.n, s.k, s.slices, s.type == WeightType::kBf16 ? "bf16" : "fp8",
                     s.input_major ? "input-major" : "output-major");
}

struct Problem {
  Shape shape;
  Precision precision;
  Stored stored;
  Packed packed;
  std::vector<float> x, bias, expected;

  Problem(const Shape& s, Precision precision_, Numbers numbers)
      : shape(s),
        precision(precision_),
        stored(numbers, s.type, s.n, s.k, s.input_major, /*wild=*/true, s.output_origin, s.input_origin),
        packed(stored, PanelOrder::kPlain, s.slices),
        x(numbers.rows(kRowsMax * s.k, true, precision == Precision::kBf16)),
        bias(numbers.rows(s.n, false, true)) {
    set_fp_environment();
    for (std::int64_t row = 0; row < kRowsMax; ++row) {
      for (std::int64_t output = 0; output < s.n; ++output) {
        const float sum = test::product(x.data() + row * s.k, stored, output, s.slices, precision);
        expected.push_back(sum + bias[static_cast<std::size_t>(output)]);
      }
    }
  }

  // Rows [first, first + rows) by a body, with what `expected` says of them.
  std::string check(BodyKind kind, int threads, std::int64_t first, std::int64_t rows) const {
    std::vector<float> out(static_cast<std::size_t>(rows * shape.n + 1), -1.0f);
    matmul(compute_with(kind, threads, precision),
           {.x = {x.data() + first * shape.k, rows, shape.k},
            .w = packed.matrix,
            .bias = bias.data(),
            .out = {out.data(), rows, shape.n}});
    EXPECT_EQ(out.back(), -1.0f) << "written behind the last row";
    return first_difference(out.data(), expected.data() + first * shape.n, rows, shape.n);
  }
};

class EveryBody : public testing::TestWithParam<Precision> {};

// M, the row's place in the tile, threads, slices, storage order, body: the same bits as the definition.
TEST_P(EveryBody, EqualsTheDefinition) {
  for (const Shape& shape : kShapes) {
    const Problem problem(shape, GetParam(), Numbers(static_cast<std::uint64_t>(shape.n * 1000 + shape.k)));
    EXPECT_TRUE(problem.packed.guarded());
    for (const BodyKind kind : bodies_here()) {
      for (const std::int64_t rows : kRowCounts) {
        const std::int64_t first = rows == kRowsMax ? 0 : rows * 5 % 64;
        EXPECT_EQ(problem.check(kind, 1, first, rows), "") << body_name(kind) << " M " << rows << " " << name_of(shape);
      }
      for (int threads = 2; threads <= 4; ++threads) {
        EXPECT_EQ(problem.check(kind, threads, 3, 64), "")
            << body_name(kind) << " threads " << threads << name_of(shape);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, EveryBody, testing::Values(Precision::kFp32, Precision::kBf16),
                         [](const auto& tested) { return tested.param == Precision::kFp32 ? "fp32" : "bf16"; });

TEST(Matmul, SaysWhichBodiesRan) {
  std::string ran;
  for (const BodyKind kind : bodies_here()) {
    ran += fmt::format(" {}", body_name(kind));
  }
  fmt::print("[ bodies   ] ran:{}\n", ran);
  for (const BodyKind kind : {BodyKind::kAvx2, BodyKind::kAvx512, BodyKind::kAvx512Bf16}) {
    if (ran.find(fmt::format(" {}", body_name(kind))) == std::string::npos) {
      fmt::print("[ bodies   ] SKIPPED {}: this CPU has not its instructions\n", body_name(kind));
    }
  }
}

// Each mistake in the order of additions changes bits, so the equality above is a test of that order.
TEST(Matmul, NoticesEveryOtherOrder) {
  set_fp_environment();
  Numbers numbers(7);
  const Stored stored(numbers, WeightType::kBf16, 64, 1024, false);
  const Packed packed(stored, PanelOrder::kPlain, 8);
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const auto x = numbers.rows(1024, false, true);
    for (const BodyKind kind : bodies_here()) {
      std::vector<float> out(64);
      matmul(compute_with(kind, 1, precision),
             {.x = {x.data(), 1, 1024}, .w = packed.matrix, .out = {out.data(), 1, 64}});
      const auto differing = [&](Order order) {
        int count = 0;
        for (std::int64_t n = 0; n < 64; ++n) {
          const float other = test::product(x.data(), stored, n, 8, precision, order);
          count += std::memcmp(&other, &out[static_cast<std::size_t>(n)], sizeof other) != 0;
        }
        return count;
      };
      EXPECT_EQ(differing(Order::kRight), 0) << body_name(kind);
      EXPECT_GT(differing(Order::kDescending), 0) << body_name(kind);
      EXPECT_GT(differing(Order::kSwappedTree), 0) << body_name(kind);
      EXPECT_GT(differing(Order::kOneSum), 0) << body_name(kind);
      if (precision == Precision::kBf16) {
        EXPECT_GT(differing(Order::kEvenFirst), 0) << body_name(kind);
      }
    }
  }
}

// Equal is not yet right: against double precision, with the bound of K roundings.
TEST(Matmul, IsCloseToDoublePrecision) {
  Numbers numbers(8);
  for (const WeightType type : {WeightType::kBf16, WeightType::kF8E4M3}) {
    for (const int slices : {1, 2}) {
      const std::int64_t n = 96, k = 768;
      const Stored stored(numbers, type, n, k, true);
      const Packed packed(stored, PanelOrder::kPlain, slices);
      const auto x = numbers.rows(k, false, true);
      for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
        for (const BodyKind kind : bodies_here()) {
          std::vector<float> out(static_cast<std::size_t>(n));
          matmul(compute_with(kind, 2, precision),
                 {.x = {x.data(), 1, k}, .w = packed.matrix, .out = {out.data(), 1, n}});
          for (std::int64_t i = 0; i < n; ++i) {
            double sum = 0.0, magnitude = 0.0;
            for (std::int64_t j = 0; j < k; ++j) {
              const double scale = type == WeightType::kBf16 ? 1.0 : static_cast<double>(stored.scale(i, j));
              const double term = static_cast<double>(x[static_cast<std::size_t>(j)]) * stored.unscaled(i, j) * scale;
              sum += term;
              magnitude += std::fabs(term);
            }
            EXPECT_NEAR(out[static_cast<std::size_t>(i)], sum, static_cast<double>(k + 4) * 0x1p-24 * magnitude)
                << body_name(kind) << " output " << i;
          }
        }
      }
    }
  }
}

// Both roundings, no bias, and views with wider strides.
TEST(Matmul, WritesOnlyItsColumnsAndRoundsWhereAsked) {
  set_fp_environment();
  Numbers numbers(9);
  const std::int64_t n = 45, k = 130, rows = 9, x_stride = 140, out_stride = 50;
  const Stored stored(numbers, WeightType::kBf16, n, k, false);
  const Packed packed(stored, PanelOrder::kPlain, 1);
  const auto x = numbers.rows(rows * x_stride, false, true);
  for (const BodyKind kind : bodies_here()) {
    for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
      std::vector<float> out(static_cast<std::size_t>(rows * out_stride), 7.0f);
      matmul(compute_with(kind, 2, Precision::kBf16), {.x = {x.data(), rows, k, x_stride},
                                                       .w = packed.matrix,
                                                       .out = {out.data(), rows, n, out_stride},
                                                       .rounding = rounding});
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t column = 0; column < out_stride; ++column) {
          const float sum =
              column < n ? test::product(x.data() + row * x_stride, stored, column, 1, Precision::kBf16) : 7.0f;
          ASSERT_EQ(out[static_cast<std::size_t>(row * out_stride + column)],
                    rounding == Rounding::kBf16 ? round_bf16(sum) : sum)
              << body_name(kind) << " row " << row << " column " << column;
        }
      }
    }
  }
  matmul(compute_with(best_body(), 2, Precision::kBf16),
         {.x = {nullptr, 0, k}, .w = packed.matrix, .out = {nullptr, 0, n}});  // no rows: nothing to do
}

// bf16 mode multiplies bf16 numbers: x that somebody left unrounded is rounded, the same in every body.
TEST(Matmul, RoundsActivationsInBf16Mode) {
  set_fp_environment();
  Numbers numbers(10);
  const Stored stored(numbers, WeightType::kBf16, 40, 51, false);
  const Packed packed(stored, PanelOrder::kPlain, 1);
  const auto x = numbers.rows(51, true, /*rounded=*/false);
  for (const BodyKind kind : bodies_here()) {
    std::vector<float> out(40);
    matmul(compute_with(kind, 1, Precision::kBf16),
           {.x = {x.data(), 1, 51}, .w = packed.matrix, .out = {out.data(), 1, 40}});
    for (std::int64_t i = 0; i < 40; ++i) {
      EXPECT_EQ(out[static_cast<std::size_t>(i)], test::product(x.data(), stored, i, 1, Precision::kBf16));
    }
  }
}

TEST(Matmul, EveryE4m3CodeIsExact) {
  Stored stored = [] {
    Numbers numbers(1);
    return Stored(numbers, WeightType::kF8E4M3, 256, 4, false);
  }();
  for (std::size_t code = 0; code < 256; ++code) {
    for (std::size_t k = 0; k < 4; ++k) {
      stored.fp8[code * 4 + k] = static_cast<std::uint8_t>(code);
    }
  }
  stored.scales.assign(stored.scales.size(), 1.0f);
  const Packed packed(stored, PanelOrder::kPlain, 1);
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    for (const BodyKind kind : bodies_here()) {
      for (int k = 0; k < 4; ++k) {
        float x[4] = {};
        x[k] = 1.0f;
        std::vector<float> out(256);
        matmul(compute_with(kind, 1, precision), {.x = {x, 1, 4}, .w = packed.matrix, .out = {out.data(), 1, 256}});
        for (int code = 0; code < 256; ++code) {
          const float expected = test::e4m3_value(static_cast<std::uint8_t>(code));
          const float found = out[static_cast<std::size_t>(code)];
          if (std::isnan(expected)) {
            EXPECT_TRUE(std::isnan(found)) << body_name(kind) << " code " << code;
          } else {
            EXPECT_EQ(found, expected) << body_name(kind) << " code " << code << " k " << k;
          }
        }
      }
    }
  }
}

// gate and up by the definition, silu by the house's function.
std::vector<float> gated_row(const float* x, const Stored& w, Precision precision) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < w.n / 2; ++i) {
    float gate = test::product(x, w, i, 1, precision);
    const float up = test::product(x, w, w.n / 2 + i, 1, precision);
    body(BodyKind::kReference).row.elementary(Elementary::kSilu, &gate, &gate, 1);
    out.push_back(gate * up);
  }
  return out;
}

TEST(GatedMatmul, EqualsTheDefinition) {
  set_fp_environment();
  Numbers numbers(11);
  for (const std::int64_t gates : {1, 16, 40}) {
    for (const WeightType type : {WeightType::kBf16, WeightType::kF8E4M3}) {
      const std::int64_t k = 150, rows = 64;
      const Stored stored(numbers, type, 2 * gates, k, true);
      const Packed packed(stored, PanelOrder::kGated, 1);
      for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
        const auto x = numbers.rows(rows * k, false, true);
        std::vector<float> expected;
        for (std::int64_t row = 0; row < rows; ++row) {
          const auto values = gated_row(x.data() + row * k, stored, precision);
          expected.insert(expected.end(), values.begin(), values.end());
        }
        for (const BodyKind kind : bodies_here()) {
          for (const std::int64_t count : {1, 3, 8, 64}) {
            std::vector<float> out(static_cast<std::size_t>(count * gates));
            gated_matmul(compute_with(kind, 2, precision), {x.data(), count, k}, packed.matrix,
                         {out.data(), count, gates});
            EXPECT_EQ(first_difference(out.data(), expected.data(), count, gates), "")
                << body_name(kind) << " gates " << gates << " M " << count;
          }
        }
      }
    }
  }
}

TEST(GatedMatmul, TwoMatricesPackAsOne) {
  Numbers numbers(12);
  for (const WeightType type : {WeightType::kBf16, WeightType::kF8E4M3}) {
    const Stored gate(numbers, type, 48, 200, false);
    const Stored up(numbers, type, 48, 200, false);
    alignas(64) static std::byte data[6 * 32 * 200 * 2];
    std::vector<float> scales(packed_scales(type, 96, 200, 1));
    const PackedMatrix packed =
        pack_gated(gate.view(), up.view(), 96, 200, data, scales.empty() ? nullptr : scales.data());
    const auto x = numbers.rows(200, false, true);
    std::vector<float> out(48);
    gated_matmul(compute_with(best_body(), 1, Precision::kFp32), {x.data(), 1, 200}, packed, {out.data(), 1, 48});
    set_fp_environment();
    for (std::int64_t i = 0; i < 48; ++i) {
      float g = test::product(x.data(), gate, i, 1, Precision::kFp32);
      body(BodyKind::kReference).row.elementary(Elementary::kSilu, &g, &g, 1);
      EXPECT_EQ(out[static_cast<std::size_t>(i)], g * test::product(x.data(), up, i, 1, Precision::kFp32));
    }
  }
}

struct ExpertCase {
  Stored gate_up, down;
  Packed gate_up_packed, down_packed;
  ExpertWeights weights;
  std::vector<std::int32_t> rows;

  ExpertCase(Numbers& numbers, WeightType type, std::int64_t h, std::int64_t i, std::int64_t count, std::int64_t tokens)
      : gate_up(numbers, type, 2 * i, h, true),
        down(numbers, type, h, i, true),
        gate_up_packed(gate_up, PanelOrder::kGated, 1),
        down_packed(down, PanelOrder::kPlain, 2),
        weights{gate_up_packed.matrix, down_packed.matrix} {
    for (std::int64_t r = 0; r < count; ++r) {
      rows.push_back(static_cast<std::int32_t>(numbers.random() % static_cast<std::uint64_t>(tokens)));
    }
  }
};

// Rows of every expert by gathering, gated_matmul and matmul, one expert after the other.
std::vector<float> experts_one_by_one(const Compute& compute, const std::vector<std::unique_ptr<ExpertCase>>& experts,
                                      const std::vector<float>& x, std::int64_t h, std::int64_t i, Rounding rounding) {
  std::vector<float> all;
  for (const auto& expert : experts) {
    for (const std::int32_t row : expert->rows) {
      std::vector<float> activation(static_cast<std::size_t>(i)), out(static_cast<std::size_t>(h));
      gated_matmul(compute, {x.data() + row * h, 1, h}, expert->weights.gate_up, {activation.data(), 1, i});
      matmul(compute, {.x = {activation.data(), 1, i},
                       .w = expert->weights.down,
                       .out = {out.data(), 1, h},
                       .rounding = rounding});
      all.insert(all.end(), out.begin(), out.end());
    }
  }
  return all;
}

TEST(GroupedExperts, EqualsExpertsOneByOne) {
  for (const WeightType type : {WeightType::kBf16, WeightType::kF8E4M3}) {
    Numbers numbers(13);
    const std::int64_t h = 72, i = 48, tokens = 40;
    std::vector<std::unique_ptr<ExpertCase>> experts;
    std::int64_t total = 0;
    for (const std::int64_t count : {1, 0, 2, 300, 13, 7}) {
      experts.push_back(std::make_unique<ExpertCase>(numbers, type, h, i, count, tokens));
      total += count;
    }
    const auto x = numbers.rows(tokens * h, false, true);
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      for (const Rounding rounding : {Rounding::kBf16, Rounding::kNone}) {
        const auto expected =
            experts_one_by_one(compute_with(BodyKind::kReference, 1, precision), experts, x, h, i, rounding);
        for (const BodyKind kind : bodies_here()) {
          for (int threads = 1; threads <= 4; ++threads) {
            std::vector<ExpertRows> list;
            std::int64_t first = 0;
            for (const auto& expert : experts) {
              list.push_back({&expert->weights, expert->rows, first});
              first += static_cast<std::int64_t>(expert->rows.size());
            }
            std::vector<float> activations(static_cast<std::size_t>(total * i)),
                out(static_cast<std::size_t>(total * h));
            grouped_experts(compute_with(kind, threads, precision), {x.data(), tokens, h}, list,
                            {activations.data(), total, i}, {out.data(), total, h}, rounding);
            EXPECT_EQ(first_difference(out.data(), expected.data(), total, h), "")
                << body_name(kind) << " threads " << threads;
          }
        }
      }
    }
  }
}

// More rows than one wave of packed activations holds: 48 MiB / (8192 * 4 bytes) = 1536 rows.
TEST(GroupedExperts, LongPromptsGoInWaves) {
  Numbers numbers(14);
  const std::int64_t h = 8192, i = 16, tokens = 4, rows = 2000;
  std::vector<std::unique_ptr<ExpertCase>> experts;
  experts.push_back(std::make_unique<ExpertCase>(numbers, WeightType::kBf16, h, i, rows, tokens));
  const auto x = numbers.rows(tokens * h, false, true);
  const Compute compute = compute_with(best_body(), 2, Precision::kFp32);
  std::vector<float> activations(static_cast<std::size_t>(rows * i)), out(static_cast<std::size_t>(rows * h));
  const ExpertRows list[] = {{&experts[0]->weights, experts[0]->rows, 0}};
  grouped_experts(compute, {x.data(), tokens, h}, list, {activations.data(), rows, i}, {out.data(), rows, h});
  std::vector<float> first_of_token(static_cast<std::size_t>(tokens * h));
  std::vector<std::unique_ptr<ExpertCase>> single;
  for (std::int32_t token = 0; token < tokens; ++token) {
    const std::int32_t row[] = {token};
    const ExpertRows one[] = {{&experts[0]->weights, row, 0}};
    grouped_experts(compute, {x.data(), tokens, h}, one, {activations.data(), 1, i},
                    {first_of_token.data() + token * h, 1, h});
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int32_t token = experts[0]->rows[static_cast<std::size_t>(r)];
    ASSERT_EQ(std::memcmp(out.data() + r * h, first_of_token.data() + token * h, static_cast<std::size_t>(h) * 4), 0)
        << r;
  }
}

TEST(MatmulDeathTest, WrongShapesAreBugs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Numbers numbers(15);
  const Stored stored(numbers, WeightType::kBf16, 32, 64, false);
  const Packed packed(stored, PanelOrder::kPlain, 1);
  float values[64] = {};
  const Compute compute = compute_with(BodyKind::kReference, 1, Precision::kFp32);
  EXPECT_DEATH(matmul(compute, {.x = {values, 1, 63}, .w = packed.matrix, .out = {values, 1, 32}}),
               "columns of x and inputs of w: 63 against 64");
  EXPECT_DEATH(gated_matmul(compute, {values, 1, 64}, packed.matrix, {values, 1, 16}), "panels in the order");
}

// Few rows walk panels that lie together, slice by slice; many rows walk panel by panel.
TEST(Matmul, PanelsReadTogetherGiveTheBitsOfPanelsAlone) {
  constexpr std::int64_t kK = 192, kRows = 60;
  const auto bits_of = [](const std::vector<float>& values, std::int64_t count) {
    std::vector<std::uint32_t> bits(static_cast<std::size_t>(count));
    std::memcpy(bits.data(), values.data(), bits.size() * sizeof(float));
    return bits;
  };
  for (const WeightType type : {WeightType::kBf16, WeightType::kF8E4M3}) {
    const std::int64_t n = type == WeightType::kBf16 ? 1040 : 1056;  // 1040: the last panel has 16 outputs, gated 8
    for (const int slices : {1, 2, 4}) {
      Numbers numbers(static_cast<std::uint64_t>(slices));
      const Stored stored(numbers, type, n, kK, true, /*wild=*/true);
      const std::vector<float> x = numbers.rows(kRows * kK, true, false);
      for (const PanelOrder order : {PanelOrder::kPlain, PanelOrder::kGated}) {
        const Packed packed(stored, order, slices);
        const std::int64_t columns = order == PanelOrder::kGated ? n / 2 : n;
        for (const BodyKind kind : bodies_here()) {
          if (kind == BodyKind::kReference) {
            continue;  // slow, and it knows no tiles
          }
          for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
            const auto of_rows = [&](std::int64_t rows) {
              std::vector<float> out(static_cast<std::size_t>(rows * columns));
              const Compute compute = compute_with(kind, 1, precision);
              if (order == PanelOrder::kGated) {
                gated_matmul(compute, {x.data(), rows, kK}, packed.matrix, {out.data(), rows, columns});
              } else {
                matmul(compute, {.x = {x.data(), rows, kK}, .w = packed.matrix, .out = {out.data(), rows, columns}});
              }
              return out;
            };
            const std::vector<float> all = of_rows(kRows);
            for (const std::int64_t rows : {1, 2, 5, 12}) {
              ASSERT_EQ(bits_of(of_rows(rows), rows * columns), bits_of(all, rows * columns))
                  << body_name(kind) << " rows " << rows << " slices " << slices << " gated "
                  << (order == PanelOrder::kGated);
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace zoetrope
