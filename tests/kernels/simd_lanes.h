// Every operation of kernels/cpu/simd.h on arrays, compiled once for each instruction set: simd_test.cc compares them.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd.h"

namespace zoetrope {
inline namespace ZOETROPE_ISA {
namespace simd_probe {

// Appends the bits of everything the operations make of 16 lanes of a, b, c and of `count` columns.
inline void probe(const float* a, const float* b, const float* c, int count, std::uint32_t* out) {
  const F32x16 x = load(a), y = load(b), z = load(c);
  float lanes[16];
  const auto put = [&](F32x16 v) {
    store(lanes, v);
    std::memcpy(out, lanes, sizeof lanes);
    out += 16;
  };
  put(add(x, y));
  put(sub(x, y));
  put(mul(x, y));
  put(div(x, y));
  put(sqrt(x));
  put(min(x, y));
  put(max(x, y));
  put(fma(x, y, z));
  put(fnma(x, y, z));
  put(round_bf16(x));
  put(absolute(x));
  put(negate(x));
  put(copy_sign(x, y));
  put(select(less(x, y), x, z));
  put(select(greater(x, y), x, z));
  put(select(is_nan(x), y, z));
  put(select(first_lanes(count), x, y));
  put(load_first(a, count));
  put(broadcast(a[3]));
  put(floats(add(bits(x), bits(y))));
  put(floats(sub(bits(x), bits(y))));
  put(floats(bit_xor(shift_left<7>(bits(x)), shift_right<9>(bits(y)))));
  std::memset(lanes, 0x55, sizeof lanes);
  store_first(lanes, x, count);
  std::memcpy(out, lanes, sizeof lanes);
  out += 16;
  std::uint16_t narrow[16];
  store_bf16(narrow, x);
  put(load_bf16(narrow));
  put(load_bf16_first(narrow, count));
  std::memset(narrow, 0x55, sizeof narrow);
  store_bf16_first(narrow, y, count);
  put(load_bf16(narrow));
  *out++ = mask_bits(less(x, y));
  const float whole[2] = {sum(x), maximum(x)};
  std::memcpy(out, whole, sizeof whole);
}

}  // namespace simd_probe
}  // namespace ZOETROPE_ISA

inline constexpr int kProbeWords = 26 * 16 + 3;

using Probe = void (*)(const float* a, const float* b, const float* c, int count, std::uint32_t* out);
Probe simd_probe_portable();
Probe simd_probe_avx2();
Probe simd_probe_avx512();

}  // namespace zoetrope
