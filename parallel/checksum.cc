#include "parallel/checksum.h"

#include <array>
#include <cstring>

namespace zoetrope {
namespace {

using Table = std::array<std::array<std::uint32_t, 256>, 8>;

// Slicing by 8 (Kounavis and Berry, 2005): table[s][b] is the checksum of byte b followed by s zero bytes.
constexpr Table made_table() {
  Table table{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0U);
    }
    table[0][b] = crc;
  }
  for (std::size_t s = 1; s < 8; ++s) {
    for (std::size_t b = 0; b < 256; ++b) {
      table[s][b] = (table[s - 1][b] >> 8) ^ table[0][table[s - 1][b] & 0xffU];
    }
  }
  return table;
}

constexpr Table kTable = made_table();

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
  std::uint32_t crc = ~before;
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word = 0;  // little-endian: the CPUs of the house are x86-64
    std::memcpy(&word, bytes.data() + at, 8);
    word ^= crc;
    crc = 0;
    for (std::size_t s = 0; s < 8; ++s) {
      crc ^= kTable[7 - s][(word >> (8 * s)) & 0xffU];
    }
  }
  for (; at < bytes.size(); ++at) {
    crc = (crc >> 8) ^ kTable[0][(crc ^ static_cast<std::uint32_t>(bytes[at])) & 0xffU];
  }
  return ~crc;
}

}  // namespace zoetrope
