// What the row tests share: the bodies of this CPU, numbers to feed them, and equality of bits.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/body.h"
#include "kernels/compute.h"

namespace zoetrope::test {

inline const std::vector<std::int64_t> kWidths{1, 2, 15, 16, 17, 33, 128, 2048};

// One way to compute: a body, a number of threads, a precision.
struct Way {
  BodyKind kind;
  int threads;
  Precision precision;
  std::string name;
};

// Every body of this CPU with one thread, the best with 2 and 3, in both precisions; the reference in fp32 comes first.
inline std::vector<Way> ways(Precision precision) {
  std::vector<Way> all;
  const std::string mode = precision == Precision::kBf16 ? " bf16" : " fp32";
  for (const BodyKind kind : bodies_here()) {
    all.push_back({kind, 1, precision, std::string(body_name(kind)) + mode});
  }
  for (const int threads : {2, 3}) {
    all.push_back({best_body(), threads, precision, "best, " + std::to_string(threads) + " threads" + mode});
  }
  return all;
}

class OnWay {
 public:
  explicit OnWay(const Way& way) : pool_(way.threads), compute{&body(way.kind), &pool_, way.precision} {
    set_fp_environment();
  }

 private:
  ThreadPool pool_;

 public:
  Compute compute;
};

inline std::vector<float> normals(std::int64_t n, unsigned seed, float scale = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) {
    value = normal(random);
  }
  return x;
}

inline void round_all(std::vector<float>& x) {
  for (float& value : x) {
    value = round_bf16(value);
  }
}

inline std::vector<Bf16> bf16_normals(std::int64_t n, unsigned seed, float scale = 1.0f) {
  std::vector<Bf16> x;
  for (const float value : normals(n, seed, scale)) {
    x.push_back(to_bf16(value));
  }
  return x;
}

// Same bits, with the first difference named.
template <typename T>
::testing::AssertionResult same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) {
    return ::testing::AssertionFailure() << a.size() << " against " << b.size() << " elements";
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0) {
      return ::testing::AssertionFailure() << "element " << i << " is " << a[i] << " against " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

// Runs `compute_on(way)` on every way and demands the bits of the first (the reference); returns them.
template <typename ComputeOn>
auto same_on_all_ways(Precision precision, ComputeOn compute_on) {
  using Result = decltype(compute_on(std::declval<const Compute&>()));
  std::unique_ptr<Result> expected;
  for (const Way& way : ways(precision)) {
    const OnWay on(way);
    Result found = compute_on(on.compute);
    if (!expected) {
      expected = std::make_unique<Result>(std::move(found));
    } else {
      EXPECT_TRUE(same_bits(found, *expected)) << "on " << way.name;
    }
  }
  return std::move(*expected);
}

}  // namespace zoetrope::test
