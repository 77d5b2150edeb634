#include "runtime/model/feed_forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>

#include "runtime/model/weight_packer.h"
#include "tests/runtime/model/tiny_models.h"

namespace zoetrope::test {
namespace {

constexpr std::int64_t kHidden = 64, kWide = 96, kRows = 7;
constexpr int kExperts = 6, kChosen = 2;

std::vector<Bf16> random_weights(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0.0F, 0.15F);
  std::vector<Bf16> out(static_cast<std::size_t>(count));
  for (Bf16& w : out) {
    w = to_bf16(value(random));
  }
  return out;
}

std::vector<float> random_rows(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0.0F, 1.0F);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& x : out) {
    x = round_bf16(value(random));
  }
  return out;
}

// Linear weights [n, k].
StoredMatrix stored(const std::vector<Bf16>& weights, std::int64_t k) {
  return {.type = WeightType::kBf16,
          .data = reinterpret_cast<const std::byte*>(weights.data()),
          .output_stride = k,
          .input_stride = 1};
}

double dot(const std::vector<Bf16>& weights, std::int64_t output, const double* x, std::int64_t k) {
  double sum = 0;
  for (std::int64_t i = 0; i < k; ++i) {
    sum += static_cast<double>(from_bf16(weights[static_cast<std::size_t>(output * k + i)])) * x[i];
  }
  return sum;
}

// down(silu(gate x) * up x) in double, as reference 4.5 writes it.
std::vector<double> gated_mlp(const std::vector<Bf16>& gate, const std::vector<Bf16>& up, const std::vector<Bf16>& down,
                              const float* row) {
  const std::vector<double> x(row, row + kHidden);
  std::vector<double> inner;
  for (std::int64_t i = 0; i < kWide; ++i) {
    const double g = dot(gate, i, x.data(), kHidden);
    inner.push_back(g / (1 + std::exp(-g)) * dot(up, i, x.data(), kHidden));
  }
  std::vector<double> out;
  for (std::int64_t i = 0; i < kHidden; ++i) {
    out.push_back(dot(down, i, inner.data(), kWide));
  }
  return out;
}

struct Mlp {
  explicit Mlp(unsigned seed)
      : gate(random_weights(kWide * kHidden, seed)),
        up(random_weights(kWide * kHidden, seed + 1)),
        down(random_weights(kHidden * kWide, seed + 2)) {}
  std::vector<Bf16> gate, up, down;
};

TEST(DenseFeedForward, EqualsItsFormulaAndKnowsNoLayout) {
  const Mlp mlp(1);
  const std::vector<float> x = random_rows(kRows * kHidden, 9);
  const std::vector<float> h = random_rows(kRows * kHidden, 10);
  std::vector<std::vector<float>> results;
  for (const int tp : {1, 2, 4}) {
    std::vector<float> result(kRows * kHidden);
    run_ranks({.ring = 1, .tp = tp}, [&](Ranks& ranks) {
      ThreadPool pool(1);
      const Compute compute = compute_on(pool, Precision::kFp32);
      DenseWeights weights;
      WeightPacker packer;
      const std::int64_t columns = kWide / tp, first = columns * ranks.place.tp_index;
      packer.gated(weights.gate_up, Home::kRank, part_of(stored(mlp.gate, kHidden), first, 0),
                   part_of(stored(mlp.up, kHidden), first, 0), columns, kHidden);
      packer.plain(weights.down, Home::kRank, part_of(stored(mlp.down, kWide), 0, first), kHidden, columns, 8 / tp);
      const auto packed = packer.pack_all(compute, *ranks.host, {});
      const RowStep step = RowStep::of(kRows, *ranks.tp);
      const auto own_first = static_cast<std::size_t>(step.own.first * kHidden),
                 own_count = static_cast<std::size_t>(step.own.count() * kHidden);
      std::vector<float> normed(x.size(), -1.0F);
      std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(own_first), own_count,
                  normed.begin() + static_cast<std::ptrdiff_t>(own_first));
      std::vector<float> own_h(h.begin() + static_cast<std::ptrdiff_t>(own_first),
                               h.begin() + static_cast<std::ptrdiff_t>(own_first + own_count));
      TextActivations activations;
      dense_feed_forward(compute, *ranks.tp, weights, step, activations, {normed.data(), kRows, kHidden},
                         {own_h.data(), step.own.count(), kHidden});
      std::ranges::copy(own_h, result.begin() + static_cast<std::ptrdiff_t>(own_first));
    });
    for (std::int64_t row = 0; row < kRows; ++row) {
      const std::vector<double> expected = gated_mlp(mlp.gate, mlp.up, mlp.down, x.data() + row * kHidden);
      for (std::int64_t c = 0; c < kHidden; ++c) {
        const auto at = static_cast<std::size_t>(row * kHidden + c);
        EXPECT_NEAR(result[at], h[at] + expected[static_cast<std::size_t>(c)], 1e-4) << "tp " << tp;
      }
    }
    results.push_back(result);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

// Experts in order, in any order, all on one rank, with replicas on some and on all ranks.
std::vector<ExpertTable> tables_over(int ranks) {
  std::vector<ExpertTable> tables{ExpertTable::contiguous(kExperts, ranks), {}, {}, {}, {}};
  std::mt19937 random(static_cast<unsigned>(ranks));
  for (int e = 0; e < kExperts; ++e) {
    const int any = static_cast<int>(random() % static_cast<unsigned>(ranks));
    tables[1].ranks_of.push_back({any});
    tables[2].ranks_of.push_back({ranks - 1});
    tables[3].ranks_of.push_back(any == 0 ? std::vector<int>{0} : std::vector<int>{0, any});
    std::vector<int>& everywhere = tables[4].ranks_of.emplace_back(static_cast<std::size_t>(ranks));
    std::iota(everywhere.begin(), everywhere.end(), 0);
  }
  return tables;
}

TEST(MoeFeedForward, EqualsItsFormulaAndKnowsNoLayoutAndNoPlacement) {
  TextConfig config;
  config.layers = 1;
  config.hidden = kHidden;
  config.experts = kExperts;
  config.experts_per_token = kChosen;
  config.expert_intermediate = kWide;
  std::vector<Mlp> experts;
  for (unsigned e = 0; e < kExperts; ++e) {
    experts.emplace_back(100 + 10 * e);
  }
  const std::vector<Bf16> router = random_weights(kExperts * kHidden, 5);
  const std::vector<float> x = random_rows(kRows * kHidden, 11);
  const std::vector<float> h = random_rows(kRows * kHidden, 12);

  std::vector<double> expected(h.begin(), h.end());
  for (std::int64_t row = 0; row < kRows; ++row) {
    const std::vector<double> wide(x.begin() + row * kHidden, x.begin() + (row + 1) * kHidden);
    std::vector<double> p;
    for (int e = 0; e < kExperts; ++e) {
      p.push_back(std::exp(dot(router, e, wide.data(), kHidden)));
    }
    std::vector<int> order(kExperts);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order,
                      [&](int a, int b) { return p[static_cast<std::size_t>(a)] > p[static_cast<std::size_t>(b)]; });
    const double sum = p[static_cast<std::size_t>(order[0])] + p[static_cast<std::size_t>(order[1])];
    for (int j = 0; j < kChosen; ++j) {
      const auto e = static_cast<std::size_t>(order[static_cast<std::size_t>(j)]);
      const std::vector<double> y =
          gated_mlp(experts[e].gate, experts[e].up, experts[e].down, x.data() + row * kHidden);
      for (std::int64_t c = 0; c < kHidden; ++c) {
        expected[static_cast<std::size_t>(row * kHidden + c)] += p[e] / sum * y[static_cast<std::size_t>(c)];
      }
    }
  }

  std::vector<std::vector<float>> results;
  std::vector<std::pair<Layout, ExpertTable>> cases;
  for (const Layout layout : {Layout{1, 1}, Layout{2, 1}, Layout{3, 2}, Layout{1, 4}}) {
    for (const ExpertTable& table : tables_over(layout.ranks())) {
      cases.emplace_back(layout, table);
    }
  }
  for (const auto& [layout_, table_] : cases) {
    const Layout& layout = layout_;
    const ExpertTable& table = table_;
    std::vector<float> result(kRows * kHidden);
    std::atomic<std::uint64_t> chosen{0}, answered{0};
    run_ranks(layout, [&](Ranks& ranks) {
      ThreadPool pool(1);
      const Compute compute = compute_on(pool, Precision::kFp32);
      MoeWeights weights;
      WeightPacker packer;
      packer.plain(weights.router, Home::kRank, stored(router, kHidden), kExperts, kHidden, 1);
      const std::vector<int> mine = table.experts_of(ranks.place.rank);
      weights.experts.resize(mine.size());
      for (std::size_t i = 0; i < mine.size(); ++i) {
        const Mlp& mlp = experts[static_cast<std::size_t>(mine[i])];
        packer.gated(weights.experts[i].gate_up, Home::kRank, stored(mlp.gate, kHidden), stored(mlp.up, kHidden), kWide,
                     kHidden);
        packer.plain(weights.experts[i].down, Home::kRank, stored(mlp.down, kWide), kHidden, kWide, 2);
      }
      const auto packed = packer.pack_all(compute, *ranks.host, {});
      // All rows live on the last member; the others join without rows.
      const bool here = ranks.place.member == layout.ring - 1;
      const RowStep step = RowStep::of(here ? kRows : 0, *ranks.tp);
      std::vector<float> own_h(h.begin() + step.own.first * kHidden, h.begin() + step.own.end * kHidden);
      MoeFeedForward moe(config, compute, ranks, {{table}}, {});
      TextActivations activations;
      std::copy_n(x.data() + step.own.first * kHidden, step.own.count() * kHidden, moe.input(step).data);
      moe.run(0, weights, step, activations, {own_h.data(), step.own.count(), kHidden});
      std::ranges::copy(own_h, result.begin() + step.own.first * kHidden);
      EXPECT_EQ(moe.routing_ties(), 0);
      chosen += std::accumulate(moe.counts().chosen.begin(), moe.counts().chosen.end(), std::uint64_t{0});
      answered += moe.counts().answered;
    });
    EXPECT_EQ(chosen, static_cast<std::uint64_t>(kRows * kChosen));
    EXPECT_EQ(answered, static_cast<std::uint64_t>(kRows * kChosen));
    for (std::size_t i = 0; i < result.size(); ++i) {
      EXPECT_NEAR(result[i], expected[i], 1e-4) << described(layout);
    }
    results.push_back(result);
  }
  for (const auto& result : results) {
    EXPECT_EQ(result, results[0]);
  }
}

}  // namespace
}  // namespace zoetrope::test
