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
    ASSERT_EQ(std::bit_cast<std::uint32_t>(back[i]), std::bit_cast<std::uint32_t>(values[i]));
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

TEST(Bf16Wire, OneUnroundedValueIsSeen) {
  std::vector<float> values(67, 1.5f);
  std::vector<std::byte> wire(67 * 2);
  for (const std::size_t at : {std::size_t{0}, std::size_t{33}, std::size_t{66}}) {
    values[at] = 1.0f + std::ldexp(1.0f, -23);
    EXPECT_DEATH(to_wire(values.data(), 67, true, wire.data()), "bf16 numbers");
    values[at] = 1.5f;
  }
}

}  // namespace
}  // namespace zoetrope
