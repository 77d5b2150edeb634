// Bodies: the same arithmetic written for different instruction sets, all giving the same bits (docs/one-answer.md).
// kReference is the readable specification; the others are the product, chosen at run time by what the CPU has.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/body_table.h"

namespace zoetrope {

enum class BodyKind { kReference, kPortable, kAvx2, kAvx512, kAvx512Bf16 };

const Body& body(BodyKind kind);      // Error(kStartup) when this CPU cannot run it
std::vector<BodyKind> bodies_here();  // those this CPU can run, kReference first, the newest instructions last

// The one that multiplies fastest in bf16 mode; never kReference. VDPBF16PS does two multiply-adds a lane: on AMD's
// CPUs in the time of one, on Intel's without AMX in the time of four. The two AVX-512 bodies are timed against each
// other at the first call, for less than a millisecond.
BodyKind best_body();
std::string_view body_name(BodyKind kind);   // "reference", "portable", "avx2", "avx512", "avx512bf16"
BodyKind body_named(std::string_view name);  // UsageError with the names that exist

}  // namespace zoetrope
