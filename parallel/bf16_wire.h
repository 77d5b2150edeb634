// Rows as they travel: fp32, or bf16 in bf16 mode. What travels as bf16 either is a bf16 number already (outputs of
// experts) or is read by bf16 products alone, which round it in the same way when it stays at home: travelling changes
// no bit of an answer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zoetrope {

// `count` values to 4 bytes each, or with `as_bf16` to 2, rounded to nearest even.
void to_wire(const float* values, std::int64_t count, bool as_bf16, std::byte* wire);
void from_wire(const std::byte* wire, std::int64_t count, bool as_bf16, float* values);

}  // namespace zoetrope
