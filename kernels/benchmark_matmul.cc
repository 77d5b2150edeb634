// Expert shapes of the 30B-A3B and the 235B-A22B with as many experts in turn as memory is needed to leave the caches.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "kernels/benchmark.h"
#include "kernels/large_memory.h"
#include "kernels/matmul.h"
#include "monitoring/check.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kRotated = std::int64_t{224} << 20;  // bytes of weights that calls walk through
constexpr std::int64_t kRowCounts[] = {1, 8, 64, 512};
constexpr std::int64_t kRowsMax = 512;
constexpr std::int64_t kInputsMax = 4096;

// Any bytes serve as weights as long as they are ordinary numbers: bf16 of magnitude around 1, e4m3 likewise.
class Weights {
 public:
  explicit Weights(std::int64_t bytes) : bytes_(bytes), data_(large_memory(static_cast<std::size_t>(bytes))) {
    std::uint32_t state = 1;
    for (std::int64_t i = 0; i < bytes_; i += 2) {
      state = state * 1664525U + 1013904223U;
      const auto value = static_cast<Bf16>(0x3f00U | (state >> 16 & 0x807fU));
      *reinterpret_cast<Bf16*>(data_.get() + i) = value;
    }
    scales_.assign(static_cast<std::size_t>(1 << 16), 1.0f);
  }

  // The matrices of one shape that fit, one behind the other.
  std::vector<PackedMatrix> matrices(WeightType type, PanelOrder order, std::int64_t n, std::int64_t k,
                                     int slices) const {
    const auto each = static_cast<std::int64_t>(packed_bytes(type, order, n, k, slices));
    check(packed_scales(type, n, k, slices) <= scales_.size(), "scales for a benchmark's weights");
    std::vector<PackedMatrix> all;
    for (std::int64_t at = 0; at + each <= bytes_; at += each) {
      all.push_back(
          {type, order, n, k, slices, data_.get() + at, type == WeightType::kBf16 ? nullptr : scales_.data(), 0});
    }
    return all;
  }

 private:
  std::int64_t bytes_;
  LargeMemory data_;
  std::vector<float> scales_;
};

// Rows as the model has them, in the same kind of memory.
class Values {
 public:
  Values(std::int64_t count, float value) : memory_(large_memory(static_cast<std::size_t>(count) * sizeof(float))) {
    std::fill_n(data(), count, value);
  }
  float* data() const { return reinterpret_cast<float*>(memory_.get()); }

 private:
  LargeMemory memory_;
};

struct Shape {
  const char* op;
  const char* model;
  std::int64_t n, k;
  PanelOrder order;
  int slices;
};

constexpr Shape kShapes[] = {
    {"gate_up", "30B", 1536, 2048, PanelOrder::kGated, 1},
    {"down", "30B", 2048, 768, PanelOrder::kPlain, 2},
    {"gate_up", "235B", 3072, 4096, PanelOrder::kGated, 1},
    {"down", "235B", 4096, 1536, PanelOrder::kPlain, 2},
};

// What all cases share.
struct Bench {
  const Compute& compute;
  Weights weights;
  Values x, activations, out;
  std::vector<std::int32_t> row_index;
  std::vector<BenchCase> cases;

  Bench(const Compute& compute_, std::int64_t bytes)
      : compute(compute_),
        weights(bytes),
        x(kRowsMax * kInputsMax, 0.5f),
        activations(kRowsMax * kInputsMax, 0.0f),
        out(kRowsMax * kInputsMax, 0.0f) {
    for (std::int32_t row = 0; row < kRowsMax; ++row) {
      row_index.push_back(row * 37 % static_cast<std::int32_t>(kRowsMax));
    }
  }

  void add(const Shape& shape, WeightType type, std::int64_t rows) {
    auto copies = std::make_shared<std::vector<PackedMatrix>>(
        weights.matrices(type, shape.order, shape.n, shape.k, shape.slices));
    const double values = static_cast<double>(shape.n * shape.k);
    BenchCase c{.op = shape.op,
                .shape = {},
                .m = rows,
                .flops = 2.0 * values * static_cast<double>(rows),
                .bytes = 0.0,
                .run = {}};
    c.bytes = values * (type == WeightType::kBf16 ? 2.0 : 1.0);
    c.shape = fmt::format("{} {} N={} K={}", shape.model, type == WeightType::kBf16 ? "bf16" : "fp8", shape.n, shape.k);
    c.run = [this, copies, rows](std::int64_t call) {
      const PackedMatrix& w = (*copies)[static_cast<std::size_t>(call) % copies->size()];
      if (w.order == PanelOrder::kGated) {
        gated_matmul(compute, {x.data(), rows, w.k}, w, {activations.data(), rows, w.n / 2});
      } else {
        matmul(compute, {.x = {x.data(), rows, w.k}, .w = w, .out = {out.data(), rows, w.n}});
      }
    };
    cases.push_back(std::move(c));
  }

  // `count` experts of the 30B at once, `rows` rows each, gathered from x.
  void add_experts(std::int64_t count, std::int64_t rows) {
    const Shape& up = kShapes[0];
    const Shape& down = kShapes[1];
    auto experts = std::make_shared<std::vector<ExpertWeights>>();
    const auto gate_ups = weights.matrices(WeightType::kBf16, up.order, up.n, up.k, up.slices);
    const auto downs = weights.matrices(WeightType::kBf16, down.order, down.n, down.k, down.slices);
    for (std::size_t i = 0; i < gate_ups.size(); ++i) {
      experts->push_back({gate_ups[i], downs[i]});
    }
    const double values = static_cast<double>(count * (up.n * up.k + down.n * down.k));
    BenchCase c{.op = "experts", .shape = fmt::format("30B bf16 {} experts", count), .m = rows,
                .flops = 2.0 * values * static_cast<double>(rows), .bytes = 2.0 * values, .run = {}};
    c.run = [this, experts, count, rows](std::int64_t call) {
      std::vector<ExpertRows> list;
      for (std::int64_t i = 0; i < count; ++i) {
        const auto expert = static_cast<std::size_t>(call * count + i) % experts->size();
        list.push_back(
            {&(*experts)[expert], std::span(row_index).subspan(0, static_cast<std::size_t>(rows)), i * rows});
      }
      grouped_experts(compute, {x.data(), kRowsMax, 2048}, list, {activations.data(), count * rows, 768},
                      {out.data(), count * rows, 2048});
    };
    cases.push_back(std::move(c));
  }
};

}  // namespace

std::vector<BenchRow> bench_matmul(const Compute& compute, const BenchSettings& settings) {
  Bench bench(compute, settings.quick ? kRotated / 4 : kRotated);
  for (const Shape& shape : kShapes) {
    for (const std::int64_t rows : kRowCounts) {
      if (!settings.quick || rows <= 64) {
        bench.add(shape, WeightType::kBf16, rows);
      }
    }
  }
  for (const std::int64_t rows : {1, 8, 64}) {
    bench.add(kShapes[0], WeightType::kF8E4M3, rows);
  }
  bench.add_experts(/*count=*/8, /*rows=*/1);
  bench.add_experts(/*count=*/16, /*rows=*/2);
  bench.add_experts(/*count=*/16, /*rows=*/32);
  return bench_cases(compute, settings, bench.cases);
}

}  // namespace zoetrope
