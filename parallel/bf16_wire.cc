#include "parallel/bf16_wire.h"

#include <cstring>

#include "kernels/tensor.h"

namespace zoetrope {

void to_wire(const float* values, std::int64_t count, bool as_bf16, std::byte* wire) {
  if (!as_bf16) {
    std::memcpy(wire, values, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  auto* const narrowed = reinterpret_cast<Bf16*>(wire);
  for (std::int64_t i = 0; i < count; ++i) {  // a plain loop that compilers vectorise
    narrowed[i] = to_bf16(values[i]);
  }
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
