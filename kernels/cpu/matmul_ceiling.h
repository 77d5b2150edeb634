// The ceilings of one instruction set, for benchmarks: multiply-adds between registers, and reading memory in order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/matmul_tile.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {

// kSums accumulators that fill the register file; each round adds 8 times to every one.
template <int kSums>
double multiply_in_registers_of(std::int64_t rounds, bool) {
  F32x16 sums[kSums];
#pragma GCC unroll 32
  for (int i = 0; i < kSums; ++i) {
    sums[i] = zero();
  }
  const F32x16 a = broadcast(0.5f);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 8
    for (int repeat = 0; repeat < 8; ++repeat) {
#pragma GCC unroll 32
      for (int i = 0; i < kSums; ++i) {
        multiply_add(sums[i], a, a);
      }
    }
  }
  F32x16 all = sums[0];
#pragma GCC unroll 32
  for (int i = 1; i < kSums; ++i) {
    all = add(all, sums[i]);
  }
  volatile float kept = sum(all);  // the sums are needed
  (void)kept;
  return static_cast<double>(rounds) * 8 * kSums * 16 * 2;
}

template <int kStreams, int kAhead>
[[gnu::always_inline]] inline std::uint32_t read_streams(const std::byte* memory, std::int64_t bytes) {
  U32x16 digests[4] = {broadcast_bits(0), broadcast_bits(0), broadcast_bits(0), broadcast_bits(0)};
  const std::int64_t part = bytes / kStreams;
  for (std::int64_t at = 0; at < part; at += 256) {
#pragma GCC unroll 4
    for (int stream = 0; stream < kStreams; ++stream) {
      const std::byte* from = memory + stream * part + at;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        if constexpr (kAhead > 0) {
          __builtin_prefetch(from + i * 64 + kAhead);
        }
        digests[i] = bit_xor(digests[i], bits(load(reinterpret_cast<const float*>(from + i * 64))));
      }
    }
  }
  float lanes[16];
  store(lanes, floats(bit_xor(bit_xor(digests[0], digests[1]), bit_xor(digests[2], digests[3]))));
  std::uint32_t digest = 0;
  for (const float lane : lanes) {
    digest ^= __builtin_bit_cast(std::uint32_t, lane);
  }
  return digest;
}

// One stream as the hardware prefetches it, or four: the fastest of what was tried (one to eight streams, prefetches
// none to 16 KiB ahead). Which of the two is faster differs from CPU to CPU. `bytes` is a multiple of 1024.
template <int kUnused = 0>
std::uint32_t read_memory_of(const std::byte* memory, std::int64_t bytes, int streams) {
  return streams == 1 ? read_streams<1, 0>(memory, bytes) : read_streams<4, 4096>(memory, bytes);
}

}  // inline namespace ZOETROPE_ISA
}  // namespace zoetrope
