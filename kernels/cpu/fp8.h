// e4m3 (no infinities, 0x7f and 0xff NaN) to bf16, exact: every e4m3 number, subnormals included, is a normal bf16
// number.
#pragma once

#include <cstdint>

namespace zoetrope {

[[gnu::always_inline]] constexpr std::uint16_t bf16_of_e4m3(std::uint8_t code) {
  const std::uint16_t sign = static_cast<std::uint16_t>((code & 0x80) << 8);
  const int exponent = (code >> 3) & 15;  // biased by 7
  const int mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) {
    return static_cast<std::uint16_t>(sign | 0x7fc0);
  }
  if (exponent > 0) {
    return static_cast<std::uint16_t>(sign | (exponent - 7 + 127) << 7 | mantissa << 4);
  }
  if (mantissa == 0) {
    return sign;
  }
  // mantissa * 2^-9: its highest bit becomes the implicit one.
  const int high = mantissa >= 4 ? 2 : mantissa >= 2 ? 1 : 0;
  const int rest = (mantissa << (7 - high)) & 0x7f;
  return static_cast<std::uint16_t>(sign | (high - 9 + 127) << 7 | rest);
}

struct E4m3Table {
  std::uint16_t bf16[256];
};
constexpr E4m3Table make_e4m3_table() {
  E4m3Table table{};
  for (int code = 0; code < 256; ++code) {
    table.bf16[code] = bf16_of_e4m3(static_cast<std::uint8_t>(code));
  }
  return table;
}
inline constexpr E4m3Table kE4m3Table = make_e4m3_table();

}  // namespace zoetrope
