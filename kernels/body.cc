#include "kernels/body.h"

#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "monitoring/check.h"
#include "monitoring/error.h"

namespace zoetrope {
namespace {

// clang 14 does not know the name for __builtin_cpu_supports.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool runs_here(BodyKind kind) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
  switch (kind) {
    case BodyKind::kReference:
    case BodyKind::kPortable:
      return true;
    case BodyKind::kAvx2:
      return avx2;
    case BodyKind::kAvx512:
      return avx512;
    case BodyKind::kAvx512Bf16:
      return avx512 && __builtin_cpu_supports("avx512bf16");
  }
  return false;
}

// Of the fastest of some short runs: another thread or a slow start of the vector unit spoils single ones.
double products_per_second(const MatmulBody& body) {
  constexpr int kRuns = 8;
  constexpr double kRunOperations = 4e6;
  const auto rounds = static_cast<std::int64_t>(kRunOperations / body.multiply_in_registers(1, /*bf16_mode=*/true));
  double best = 0.0;
  for (int run = 0; run < kRuns; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    const double operations = body.multiply_in_registers(rounds, /*bf16_mode=*/true);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::max(best, operations / std::max(seconds.count(), 1e-9));
  }
  return best;
}

constexpr BodyKind kAllBodies[] = {BodyKind::kReference, BodyKind::kPortable, BodyKind::kAvx2, BodyKind::kAvx512,
                                   BodyKind::kAvx512Bf16};

}  // namespace

std::string_view body_name(BodyKind kind) {
  switch (kind) {
    case BodyKind::kReference:
      return "reference";
    case BodyKind::kPortable:
      return "portable";
    case BodyKind::kAvx2:
      return "avx2";
    case BodyKind::kAvx512:
      return "avx512";
    case BodyKind::kAvx512Bf16:
      return "avx512bf16";
  }
  return "unknown";
}

std::vector<BodyKind> bodies_here() {
  std::vector<BodyKind> kinds;
  for (const BodyKind kind : kAllBodies) {
    if (runs_here(kind)) {
      kinds.push_back(kind);
    }
  }
  return kinds;
}

BodyKind best_body() {
  static const BodyKind best = [] {
    const BodyKind newest = bodies_here().back();
    const bool slower = newest == BodyKind::kAvx512Bf16 &&
                        products_per_second(body(BodyKind::kAvx512).matmul) > products_per_second(body(newest).matmul);
    return slower ? BodyKind::kAvx512 : newest;
  }();
  return best;
}

BodyKind body_named(std::string_view name) {
  std::string names;
  for (const BodyKind kind : kAllBodies) {
    if (body_name(kind) == name) {
      return kind;
    }
    names += fmt::format("{}{}", names.empty() ? "" : ", ", body_name(kind));
  }
  throw UsageError(fmt::format("--body: found {}, expected one of {}", quoted(name), names));
}

const Body& body(BodyKind kind) {
  if (!runs_here(kind)) {
    refuse(Radius::kStartup, {fmt::format("the {} kernels", body_name(kind)), "a CPU without these instructions",
                              fmt::format("one of the bodies this CPU runs, the best being {}", body_name(best_body())),
                              "leave --body out to take the best one"});
  }
  static const Body reference{"reference", matmul_body_reference(), attention_body_reference(), row_body_reference()};
  static const Body portable{"portable", matmul_body_portable(), attention_body_portable(), row_body_portable()};
  static const Body avx2{"avx2", matmul_body_avx2(), attention_body_avx2(), row_body_avx2()};
  static const Body avx512{"avx512", matmul_body_avx512(), attention_body_avx512(), row_body_avx512()};
  static const Body avx512bf16{"avx512bf16", matmul_body_avx512bf16(), attention_body_avx512bf16(), row_body_avx512()};
  switch (kind) {
    case BodyKind::kReference:
      return reference;
    case BodyKind::kPortable:
      return portable;
    case BodyKind::kAvx2:
      return avx2;
    case BodyKind::kAvx512:
      return avx512;
    case BodyKind::kAvx512Bf16:
      return avx512bf16;
  }
  check(false, "a body of an unknown kind");
  return reference;
}

}  // namespace zoetrope
