#include "parallel/bf16_wire.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/tensor.h"

namespace zoetrope {
namespace {

TEST(Bf16Wire, EveryBf16NumberSurvives) {
  std::vector<float> values(65536);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    values[i] = from_bf16(static_cast<Bf16>(i));
  }
  std::vector<std::byte> wire(65536 * 2);
  std::vector<float> back(65536);
  to_wire(values.data(), 65536, true, wire.data());
  from_wire(wire.data(), 65536, true, back.data());
  for (std::size_t i = 0; i < 65536; ++i) {  // NaNs and infinities too
    const std::uint32_t quiet = std::isnan(values[i]) ? 0x00400000U : 0U;  // a signalling NaN arrives as a quiet one
    ASSERT_EQ(std::bit_cast<std::uint32_t>(back[i]), std::bit_cast<std::uint32_t>(values[i]) | quiet);
  }
}

TEST(Bf16Wire, Fp32TravelsAsItIs) {
  const std::vector<float> values{1.1f, -0.0f, std::numeric_limits<float>::denorm_min()};
  std::vector<std::byte> wire(12);
  std::vector<float> back(3);
  to_wire(values.data(), 3, false, wire.data());
  from_wire(wire.data(), 3, false, back.data());
  EXPECT_EQ(values, back);
  EXPECT_TRUE(std::signbit(back[1]));
}

// Travelling rounds as packing for a product does: to nearest, ties to even, NaN stays NaN.
TEST(Bf16Wire, OtherNumbersAreRoundedAsProductsRoundThem) {
  std::vector<float> values(67);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 1.0f + std::ldexp(static_cast<float>(i), -9);  // odd ones lie halfway between bf16 numbers
  }
  values[5] = std::numeric_limits<float>::quiet_NaN();
  values[6] = std::numeric_limits<float>::max();
  std::vector<std::byte> wire(values.size() * 2);
  std::vector<float> back(values.size());
  to_wire(values.data(), 67, true, wire.data());
  from_wire(wire.data(), 67, true, back.data());
  EXPECT_TRUE(std::isnan(back[5]));
  EXPECT_EQ(back[6], std::numeric_limits<float>::infinity());
  EXPECT_NE(back[1], values[1]);
  for (std::size_t i = 7; i < values.size(); ++i) {
    EXPECT_EQ(back[i], round_bf16(values[i])) << i;
  }
}

}  // namespace
}  // namespace zoetrope
