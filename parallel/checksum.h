// CRC-32C (Castagnoli, reflected 0x82f63b78) of messages between ranks: MPI itself checks nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace zoetrope {

// `before` continues the checksum of the bytes that came before.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace zoetrope
