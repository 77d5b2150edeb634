#include "kernels/reference/elementary.h"

#include <cmath>
#include <initializer_list>
#include <limits>

namespace zoetrope::reference {
namespace {

// c0 x^n + c1 x^(n-1) + ... + cn by Horner's rule, each step one fused multiply-add.
float polynomial(float x, std::initializer_list<float> highest_first) {
  const float* c = highest_first.begin();
  float p = *c++;
  for (; c != highest_first.end(); ++c) {
    p = std::fma(p, x, *c);
  }
  return p;
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

// 2^x = 2^n 2^f, n the integer nearest to x, |f| <= 1/2.
float exp2(float x) {
  if (std::isnan(x)) {
    return x;
  }
  if (x < -126.0f) {
    return 0.0f;
  }
  if (x > 128.0f) {
    return kInfinity;
  }
  const float n = std::nearbyint(x);
  const float power = polynomial(
      x - n, {0x1.470b44p-13f, 0x1.5f7276p-10f, 0x1.3b270ep-7f, 0x1.c6ae72p-5f, 0x1.ebfbe2p-3f, 0x1.62e432p-1f, 1.0f});
  return std::ldexp(power, static_cast<int>(n));
}

// e^x = 2^n e^r, n the integer nearest to x log2(e), r = x - n ln 2 with ln 2 in two parts.
float exp(float x) {
  if (std::isnan(x)) {
    return x;
  }
  if (x < -87.33654f) {
    return 0.0f;
  }
  if (x > 88.72283f) {
    return kInfinity;
  }
  const double product = static_cast<double>(x) * static_cast<double>(0x1.715476p+0f);  // exact
  const auto n = static_cast<float>(std::nearbyint(product));
  const float r = std::fma(-n, 0x1.7f7d1cp-20f, std::fma(-n, 0x1.62e4p-1f, x));
  const float power = polynomial(
      r, {0x1.709b5cp-10f, 0x1.12903cp-7f, 0x1.55515ep-5f, 0x1.5553c0p-3f, 0x1.000002p-1f, 0x1.000002p+0f, 1.0f});
  return std::ldexp(power, static_cast<int>(n));
}

// |x| < 0.625: x + x^3 P(x^2); else sign(x) (1 - 2 / (e^2|x| + 1)).
float tanh(float x) {
  if (std::fabs(x) < 0.625f) {
    const float s = x * x;
    const float p = polynomial(s, {-0x1.76ac20p-8f, 0x1.5256d8p-6f, -0x1.b8444ap-5f, 0x1.110768p-3f, -0x1.555534p-2f});
    return std::fma(x * s, p, x);
  }
  const float a = std::fabs(x);
  return std::copysign(1.0f - 2.0f / (exp(a + a) + 1.0f), x);
}

// |x| < 1: x + x P(x^2); else sign(x) (1 - 2^Q(min(|x|, 4))).
float erf(float x) {
  if (std::fabs(x) < 1.0f) {
    return std::fma(x,
                    polynomial(x * x, {0x1.496a42p-14f, -0x1.a3f706p-11f, 0x1.5405b2p-8f, -0x1.b7f90ep-6f,
                                       0x1.ce2cf8p-4f, -0x1.81273ep-2f, 0x1.06eba8p-3f}),
                    x);
  }
  const float a = std::fabs(x) > 4.0f ? 4.0f : std::fabs(x);
  const float q = polynomial(a, {-0x1.06751ap-15f, 0x1.4dd208p-11f, -0x1.8d88c4p-8f, 0x1.29eccep-5f, -0x1.405674p-3f,
                                 -0x1.d3bbf0p-1f, -0x1.a12fe6p+0f, 0x1.1c74f6p-12f});
  return std::copysign(1.0f - exp2(q), x);
}

float elementary(Elementary function, float x) {
  switch (function) {
    case Elementary::kExp2:
      return exp2(x);
    case Elementary::kExp:
      return exp(x);
    case Elementary::kTanh:
      return tanh(x);
    case Elementary::kErf:
      return erf(x);
    case Elementary::kSilu:  // x / (1 + e^-x)
      return x / (1.0f + exp(-x));
    case Elementary::kGeluTanh:  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
      return 0.5f * x * (1.0f + tanh(0x1.988454p-1f * std::fma(0.044715f, x * x * x, x)));
    case Elementary::kGeluErf:  // x/2 (1 + erf(x / sqrt(2)))
      return 0.5f * x * (1.0f + erf(x * 0x1.6a09e6p-1f));
    case Elementary::kRoundBf16:
      return round_bf16(x);
  }
  return x;
}

}  // namespace zoetrope::reference
