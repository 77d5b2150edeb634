// kernels/cpu/simd.h and simd_math.h: the same bits in every instruction set, under the house's floating-point
// environment, and as near to the truth as their comments say. The elementary functions are reached through the table
// of each body; kernels/reference/elementary.cc is one of them.

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/body_table.h"
#include "tests/kernels/row_bodies.h"
#include "tests/kernels/simd_lanes.h"

namespace zoetrope {
namespace {

float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

// NaNs count as equal whatever their payload.
std::uint32_t without_payload(std::uint32_t bits) { return (bits & 0x7fffffffU) > 0x7f800000U ? 0x7fc00000U : bits; }

std::vector<float> specials() {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> all{0.0f,
                         1.0f,
                         0.5f,
                         126.0f,
                         125.99999f,
                         126.00001f,
                         127.0f,
                         127.5f,
                         128.0f,
                         128.00002f,
                         149.0f,
                         150.0f,
                         88.72283f,
                         88.722840f,
                         87.33654f,
                         87.33655f,
                         87.3365f,
                         0.625f,
                         0.62499994f,
                         4.0f,
                         3.9999998f,
                         0.99999994f,
                         1.0000001f,
                         1e-38f,
                         1.1754944e-38f,
                         1e38f,
                         3.4028235e38f,
                         infinity,
                         std::numeric_limits<float>::quiet_NaN(),
                         1e-20f,
                         0.34657359f,
                         12582912.0f,
                         8388608.0f,
                         float_of(0x3f808000),
                         float_of(0x3f818000),
                         float_of(0x3f7fffff),
                         float_of(0x7f7fffff),
                         float_of(0x7fbfffff)};
  const std::size_t n = all.size();
  for (std::size_t i = 0; i < n; ++i) {
    all.push_back(-all[i]);
  }
  return all;
}

// Random bit patterns without denormals: every exponent, both signs, infinities and NaNs among them.
std::vector<float> any_bits(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> x(n);
  for (float& value : x) {
    std::uint32_t bits = random();
    value = float_of((bits & 0x7f800000U) == 0 ? bits & 0x80000000U : bits);
  }
  return x;
}

TEST(Simd, LanesAreTheSameInEveryInstructionSet) {
  set_fp_environment();
  std::vector<std::pair<const char*, Probe>> others;
  for (const BodyKind kind : bodies_here()) {
    if (kind == BodyKind::kAvx2) {
      others.emplace_back("avx2", simd_probe_avx2());
    } else if (kind == BodyKind::kAvx512) {
      others.emplace_back("avx512", simd_probe_avx512());
    }
  }
  std::vector<float> values = any_bits(20000 * 48, 1);
  for (std::size_t i = 0; i < values.size(); i += 3) {
    values[i] = test::normals(1, static_cast<unsigned>(i % 1000))[0];
  }
  const std::vector<float> special = specials();
  for (std::size_t i = 0; i < 40 * special.size(); ++i) {
    const float value = special[i % special.size()];
    values[7 * i] =
        (std::bit_cast<std::uint32_t>(value) & 0x7f800000U) == 0 ? 0.0f : value;  // outside the promise of min and max
  }
  std::vector<std::uint32_t> expected(kProbeWords), found(kProbeWords);
  for (std::size_t at = 0; at + 48 <= values.size(); at += 48) {
    const int count = static_cast<int>(at / 48 % 17);
    const float* a = values.data() + at;
    simd_probe_portable()(a, a + 16, a + 32, count, expected.data());
    for (const auto& [name, probe] : others) {
      probe(a, a + 16, a + 32, count, found.data());
      for (int i = 0; i < kProbeWords; ++i) {
        ASSERT_EQ(without_payload(found[i]), without_payload(expected[i])) << name << " word " << i << " at " << at;
      }
    }
  }
}

TEST(Simd, PortableLanesMeanWhatTheySay) {
  set_fp_environment();
  const std::vector<float> x = test::normals(48, 3);
  std::vector<std::uint32_t> out(kProbeWords);
  simd_probe_portable()(x.data(), x.data() + 16, x.data() + 32, 5, out.data());
  const float* a = x.data();
  const float* b = a + 16;
  float halves[16];
  std::copy(a, a + 16, halves);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      halves[i] += halves[i + width];
    }
  }
  EXPECT_EQ(float_of(out[26 * 16 + 1]), halves[0]);
  EXPECT_EQ(float_of(out[26 * 16 + 2]), *std::max_element(a, a + 16));
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(float_of(out[i]), a[i] + b[i]);
    EXPECT_EQ(float_of(out[7 * 16 + i]), std::fma(a[i], b[i], x[32 + i]));
    EXPECT_EQ(float_of(out[8 * 16 + i]), std::fma(-a[i], b[i], x[32 + i]));
    EXPECT_EQ(float_of(out[9 * 16 + i]), round_bf16(a[i]));
    EXPECT_EQ(float_of(out[17 * 16 + i]), i < 5 ? a[i] : 0.0f);
    EXPECT_EQ(out[22 * 16 + i], i < 5 ? std::bit_cast<std::uint32_t>(a[i]) : 0x55555555U);
    EXPECT_EQ(float_of(out[23 * 16 + i]), round_bf16(a[i]));
    EXPECT_EQ((out[26 * 16] >> i) & 1U, a[i] < b[i] ? 1U : 0U);
  }
}

TEST(Simd, EveryBf16RoundsToItselfAndTiesGoToEven) {
  const RowBody& row = body(best_body()).row;
  for (std::uint32_t high = 0; high < 0x10000; ++high) {
    const float x[3] = {float_of(high << 16), float_of((high << 16) | 0x8000U), float_of((high << 16) | 0x7fffU)};
    float y[3];
    row.elementary(Elementary::kRoundBf16, x, y, 3);
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(y[i]), std::bit_cast<std::uint32_t>(round_bf16(x[i]))) << high;
    }
    if (!std::isnan(x[0])) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(y[0]), high << 16);
    }
    if (std::isfinite(x[0])) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(y[1]) >> 16, high + (high & 1U));
    }
  }
}

struct Function {
  Elementary which;
  const char* name;
  long double (*truth)(long double);
  float low, high;  // where its error is measured
  double ulps_max;  // 0: the absolute error counts
  double absolute_max;
};

const Function kFunctions[] = {
    {Elementary::kExp2, "exp2", exp2l, -126.0f, 127.99f, 1.1, 0},
    {Elementary::kExp2, "exp2 near 0", exp2l, -1.0f, 1.0f, 1.1, 0},
    {Elementary::kExp, "exp", expl, -87.336f, 88.7228f, 1.3, 0},
    {Elementary::kExp, "exp near 0", expl, -1.0f, 1.0f, 1.3, 0},
    {Elementary::kTanh, "tanh", tanhl, -10.0f, 10.0f, 1.5, 1e-7},
    {Elementary::kTanh, "tanh near 0", tanhl, -0.7f, 0.7f, 1.5, 1e-7},
    {Elementary::kErf, "erf", erfl, -5.0f, 5.0f, 1.4, 1e-7},
    {Elementary::kErf, "erf near 0", erfl, -1.1f, 1.1f, 1.4, 1e-7},
    {Elementary::kSilu, "silu", [](long double x) { return x / (1 + expl(-x)); }, -30.0f, 30.0f, 2.7, 0},
    {Elementary::kGeluTanh, "gelu_tanh",
     [](long double x) {
       return x / 2 * (1 + tanhl(sqrtl(2 / 3.14159265358979323846L) * (x + 0.044715L * x * x * x)));
     },
     -6.0f, 6.0f, 0, 5e-7},
    {Elementary::kGeluErf, "gelu_erf", [](long double x) { return x / 2 * (1 + erfl(x / sqrtl(2))); }, -6.0f, 6.0f, 0,
     5e-7}};

TEST(SimdMath, ErrorsAreThoseStated) {
  set_fp_environment();
  const RowBody& row = body(best_body()).row;
  constexpr int kPoints = 1 << 18;
  std::vector<float> x(kPoints), y(kPoints);
  for (const Function& f : kFunctions) {
    for (int i = 0; i < kPoints; ++i) {
      x[i] = f.low + (f.high - f.low) * (static_cast<float>(i) + 0.37f) / kPoints;
    }
    row.elementary(f.which, x.data(), y.data(), kPoints);
    double worst_ulps = 0, worst_absolute = 0;
    for (int i = 0; i < kPoints; ++i) {
      const long double truth = f.truth(static_cast<long double>(x[i]));
      const auto absolute = static_cast<double>(std::fabs(static_cast<long double>(y[i]) - truth));
      int exponent = 0;
      std::frexp(static_cast<double>(truth), &exponent);
      worst_ulps = std::max(worst_ulps, absolute / std::ldexp(1.0, std::max(exponent, -125) - 24));
      worst_absolute = std::max(worst_absolute, absolute);
    }
    if (f.ulps_max > 0) {
      EXPECT_LE(worst_ulps, f.ulps_max) << f.name;
    }
    if (f.absolute_max > 0) {
      EXPECT_LE(worst_absolute, f.absolute_max) << f.name;
    }
    std::printf("  %-12s %.3f ulp, %.2e absolute\n", f.name, worst_ulps, worst_absolute);
  }
}

TEST(SimdMath, AllBodiesGiveTheBitsOfTheReference) {
  set_fp_environment();
  std::vector<float> x = any_bits(1 << 18, 5);
  for (const float scale : {0.3f, 3.0f, 40.0f, 130.0f}) {
    const auto more = test::normals(1 << 16, static_cast<unsigned>(scale), scale);
    x.insert(x.end(), more.begin(), more.end());
  }
  for (const float value : specials()) {
    x.push_back(value);
  }
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<float> expected(x.size()), found(x.size());
  for (const Elementary which :
       {Elementary::kExp2, Elementary::kExp, Elementary::kTanh, Elementary::kErf, Elementary::kSilu,
        Elementary::kGeluTanh, Elementary::kGeluErf, Elementary::kRoundBf16}) {
    body(BodyKind::kReference).row.elementary(which, x.data(), expected.data(), n);
    for (const BodyKind kind : bodies_here()) {
      body(kind).row.elementary(which, x.data(), found.data(), n);
      for (std::size_t i = 0; i < x.size(); ++i) {
        ASSERT_EQ(without_payload(std::bit_cast<std::uint32_t>(found[i])),
                  without_payload(std::bit_cast<std::uint32_t>(expected[i])))
            << body_name(kind) << ", function " << static_cast<int>(which) << " of " << x[i];
      }
    }
  }
}

float at(Elementary which, float x) {
  float y = 0.0f;
  body(best_body()).row.elementary(which, &x, &y, 1);
  return y;
}

TEST(SimdMath, HoldsAtTheEdges) {
  set_fp_environment();
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(at(Elementary::kExp2, 0.0f), 1.0f);
  EXPECT_EQ(at(Elementary::kExp2, -0.0f), 1.0f);
  EXPECT_EQ(at(Elementary::kExp2, -126.0f), std::numeric_limits<float>::min());
  EXPECT_EQ(at(Elementary::kExp2, std::nextafter(-126.0f, -127.0f)), 0.0f);
  EXPECT_EQ(at(Elementary::kExp2, -3.0e38f), 0.0f);
  EXPECT_EQ(at(Elementary::kExp2, -infinity), 0.0f);
  EXPECT_EQ(at(Elementary::kExp2, 127.0f), std::ldexp(1.0f, 127));
  EXPECT_EQ(at(Elementary::kExp2, 128.0f), infinity);
  EXPECT_LT(at(Elementary::kExp2, std::nextafter(128.0f, 0.0f)), infinity);
  EXPECT_EQ(at(Elementary::kExp2, infinity), infinity);
  for (int n = -126; n <= 127; ++n) {
    EXPECT_EQ(at(Elementary::kExp2, static_cast<float>(n)), std::ldexp(1.0f, n));
  }
  EXPECT_EQ(at(Elementary::kExp, 0.0f), 1.0f);
  EXPECT_EQ(at(Elementary::kExp, -infinity), 0.0f);
  EXPECT_EQ(at(Elementary::kExp, -88.0f), 0.0f);
  EXPECT_EQ(at(Elementary::kExp, infinity), infinity);
  EXPECT_EQ(at(Elementary::kExp, 88.73f), infinity);
  EXPECT_EQ(at(Elementary::kTanh, infinity), 1.0f);
  EXPECT_EQ(at(Elementary::kTanh, -infinity), -1.0f);
  EXPECT_EQ(at(Elementary::kErf, infinity), 1.0f);
  EXPECT_EQ(at(Elementary::kErf, -4.0f), -1.0f);
  EXPECT_TRUE(std::signbit(at(Elementary::kErf, -0.0f)));
  EXPECT_EQ(at(Elementary::kSilu, -200.0f), 0.0f);
  EXPECT_EQ(at(Elementary::kSilu, 200.0f), 200.0f);
  EXPECT_EQ(at(Elementary::kGeluErf, 50.0f), 50.0f);
  EXPECT_EQ(at(Elementary::kGeluTanh, -50.0f), 0.0f);
  for (const Elementary which :
       {Elementary::kExp2, Elementary::kExp, Elementary::kTanh, Elementary::kErf, Elementary::kSilu,
        Elementary::kGeluTanh, Elementary::kGeluErf, Elementary::kRoundBf16}) {
    EXPECT_TRUE(std::isnan(at(which, std::nanf(""))));
    EXPECT_TRUE(std::isnan(at(which, -std::nanf(""))));
  }
}

}  // namespace
}  // namespace zoetrope
