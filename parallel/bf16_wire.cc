#include "parallel/bf16_wire.h"

#include <cstring>

#include "kernels/tensor.h"

namespace zoetrope {
namespace {

// The dropped halves together: 0 when every value is a bf16 number. Plain loops that compilers vectorise.
std::uint32_t narrow(const float* values, std::int64_t count, Bf16* out) {
  std::uint32_t dropped = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    out[i] = static_cast<Bf16>(bits >> 16);
    dropped |= bits & 0xffffU;
  }
  return dropped;
}

}  // namespace

void to_wire(const float* values, std::int64_t count, bool as_bf16, std::byte* wire) {
  if (!as_bf16) {
    std::memcpy(wire, values, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  check_eq(narrow(values, count, reinterpret_cast<Bf16*>(wire)), 0U, "values that travel as bf16 are bf16 numbers");
}

void from_wire(const std::byte* wire, std::int64_t count, bool as_bf16, float* values) {
  if (!as_bf16) {
    std::memcpy(values, wire, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const auto* const narrowed = reinterpret_cast<const Bf16*>(wire);
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = from_bf16(narrowed[i]);
  }
}

}  // namespace zoetrope
