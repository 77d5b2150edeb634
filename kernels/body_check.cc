#include "kernels/body_check.h"

#include <bit>
#include <vector>

#include "kernels/bodies/matmul_body.h"
#include "kernels/matmul.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kRows = 256, kOutputs = 256, kInputs = 4;
static_assert(kRows * kOutputs == kCheckedProducts);

// Every value where rounding, flushing or overflow can differ, among random bits.
constexpr Bf16 kSpecial[] = {0x0000, 0x8000, 0x0001, 0x807f, 0x0080, 0x8080, 0x00ff, 0x0100, 0x1f80, 0x2000, 0x3f80,
                             0xbf80, 0x3f81, 0xbf7f, 0x4000, 0x5f80, 0x7f00, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0};

// splitmix64: the same sequence on every machine.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

std::vector<Bf16> random_values(std::int64_t count, std::uint64_t seed) {
  std::vector<Bf16> values(static_cast<std::size_t>(count));
  for (Bf16& value : values) {
    const std::uint64_t draw = next_random(seed);
    if (draw % 4 == 0) {
      value = kSpecial[draw / 4 % std::size(kSpecial)];
    } else if (draw % 4 == 1) {
      value = static_cast<Bf16>(draw >> 16);  // any bits
    } else {
      value = static_cast<Bf16>((draw >> 16 & 0x87ff) + 0x3c00);  // magnitudes that meet and cancel
    }
  }
  return values;
}

std::vector<float> products(const Body& body, const PackedMatrix& w, const std::vector<float>& x) {
  ThreadPool alone(1);
  std::vector<float> out(kCheckedProducts);
  matmul({&body, &alone, Precision::kBf16}, {.x = {x.data(), kRows, kInputs},
                                             .w = w,
                                             .out = {out.data(), kRows, kOutputs}});
  return out;
}

}  // namespace

std::int64_t differing_products(BodyKind kind) {
  const std::vector<Bf16> stored = random_values(kOutputs * kInputs, 1);
  std::vector<float> x;
  for (const Bf16 value : random_values(kRows * kInputs, 2)) {
    x.push_back(from_bf16(value));
  }
  alignas(64) std::byte packed[kOutputs * kInputs * sizeof(Bf16)];
  const StoredMatrix view{.data = reinterpret_cast<const std::byte*>(stored.data()),
                          .output_stride = kInputs,
                          .input_stride = 1};
  const PackedMatrix w = pack(view, PanelOrder::kPlain, kOutputs, kInputs, /*slices=*/1, 0, packed, nullptr);
  const std::vector<float> expected = products(body(BodyKind::kReference), w, x);
  const std::vector<float> found = products(body(kind), w, x);
  std::int64_t differing = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const bool both_nan = expected[i] != expected[i] && found[i] != found[i];
    differing += !both_nan && std::bit_cast<std::uint32_t>(expected[i]) != std::bit_cast<std::uint32_t>(found[i]);
  }
  return differing;
}

}  // namespace zoetrope
