// The products of a body compared with their definition at start: an instruction of the CPU at hand may round its own
// way.
#pragma once

#include <cstdint>

#include "kernels/body.h"

namespace zoetrope {

inline constexpr std::int64_t kCheckedProducts = 65536;

// In how many of kCheckedProducts random and special bf16 products (two pairs each: the second adds to the first)
// `kind` differs in any bit from two fused multiply-adds per pair, odd element first, denormals as zero
// (docs/one-answer.md). NaN counts as equal to NaN. 0 on a CPU that keeps the definition; otherwise the fingerprint
// names the body.
std::int64_t differing_products(BodyKind kind);

}  // namespace zoetrope
