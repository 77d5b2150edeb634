// Rows as they travel: fp32, or bf16 where the values already are bf16 numbers (bf16 mode), so nothing is rounded here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zoetrope {

// `count` values to 4 or 2 bytes each. With `as_bf16` a value that is no bf16 number is a broken invariant.
void to_wire(const float* values, std::int64_t count, bool as_bf16, std::byte* wire);
void from_wire(const std::byte* wire, std::int64_t count, bool as_bf16, float* values);

}  // namespace zoetrope
