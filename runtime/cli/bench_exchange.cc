// `zoetrope bench exchange`: dispatch and combine over all ranks with the shapes of the published mixtures: bytes
// beside the closed form and the least that one-answer rule 3 allows, time beside the experts' products.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>

#include "kernels/body.h"
#include "kernels/matmul.h"
#include "monitoring/check.h"
#include "parallel/collectives.h"
#include "parallel/expert_exchange.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/cli/stopwatch.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

constexpr int kExperts = 128, kChosen = 8;
constexpr std::int64_t kWeightBytes = std::int64_t{512} << 20;  // distinct weights of a rank: beyond every cache
constexpr std::int64_t kCopyBytes = std::int64_t{64} << 20;
constexpr double kProductShare = 0.10,
                 kCopyShare = 0.90;  // the goal: so much of the product, copies at so much of memcpy

struct Shape {
  const char* name;
  std::int64_t hidden, inner;
};
constexpr Shape kShapes[] = {{"30B-A3B", 2048, 768}, {"235B-A22B", 4096, 1536}};

enum class Routing { kUniform, kZipf, kOneRank };
constexpr std::pair<Routing, const char*> kRoutings[] = {
    {Routing::kUniform, "uniform"}, {Routing::kZipf, "zipf"}, {Routing::kOneRank, "one rank"}};

double seconds_of(const std::function<void()>& body) {
  const double started = wall_seconds();
  body();
  return wall_seconds() - started;
}

constexpr std::string_view kGathering = "figures of ranks";

// Ordinary bf16 numbers serve as weights; experts share them where there are more than memory is wanted for.
class Weights {
 public:
  Weights(const Shape& shape, int experts, std::int64_t bytes_max) {
    const std::int64_t up_values = 2 * shape.inner * shape.hidden, down_values = shape.hidden * shape.inner;
    const std::int64_t distinct = std::clamp<std::int64_t>(bytes_max / (2 * (up_values + down_values)), 1, experts);
    memory_.resize(static_cast<std::size_t>(distinct * (up_values + down_values) + 32));
    std::uint32_t state = 1;
    for (Bf16& value : memory_) {
      state = state * 1664525U + 1013904223U;
      value = static_cast<Bf16>(0x3d00U | (state >> 16 & 0x807fU));  // around 1/32, either sign
    }
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    const auto* const first = reinterpret_cast<const std::byte*>((address + 63) / 64 * 64);
    for (int e = 0; e < experts; ++e) {
      const std::byte* const up = first + (e % distinct) * 2 * (up_values + down_values);
      experts_.push_back(
          {{WeightType::kBf16, PanelOrder::kGated, 2 * shape.inner, shape.hidden, 1, up, nullptr, 0},
           {WeightType::kBf16, PanelOrder::kPlain, shape.hidden, shape.inner, 2, up + 2 * up_values, nullptr, 0}});
    }
  }
  const ExpertWeights& expert(std::size_t local) const { return experts_.at(local); }

 private:
  std::vector<Bf16> memory_;
  std::vector<ExpertWeights> experts_;
};

// [T, k] distinct experts of each token. Zipf: expert e of a shuffled order with a weight of 1 / (e + 1). One rank: all
// tokens want experts of rank 0.
std::vector<std::int32_t> routed(Routing routing, std::int64_t tokens, const ExpertTable& table, int rank) {
  std::vector<std::int32_t> shuffled(kExperts);
  std::iota(shuffled.begin(), shuffled.end(), 0);
  std::mt19937 same(7);  // hot experts are the same at every rank
  std::ranges::shuffle(shuffled, same);
  std::vector<int> candidates(kExperts);
  std::iota(candidates.begin(), candidates.end(), 0);
  if (routing == Routing::kOneRank && table.experts_of(0).size() >= kChosen) {
    candidates = table.experts_of(0);
  }
  std::mt19937 random(100 + static_cast<unsigned>(rank));
  std::vector<std::int32_t> experts;
  std::vector<std::pair<double, std::int32_t>> turn;
  for (std::int64_t t = 0; t < tokens; ++t) {
    turn.clear();
    for (const int e : candidates) {
      const double weight = routing == Routing::kZipf ? 1.0 / (1.0 + shuffled[static_cast<std::size_t>(e)]) : 1.0;
      turn.emplace_back(-std::log((random() + 1.0) / 4294967297.0) / weight, e);
    }
    std::ranges::partial_sort(turn, turn.begin() + kChosen);
    for (int j = 0; j < kChosen; ++j) {
      experts.push_back(turn[static_cast<std::size_t>(j)].second);
    }
  }
  return experts;
}

// Medians of one case. Times of the slowest rank, bytes of all ranks.
struct Figures {
  double dispatch = 0, combine = 0, product = 0;  // seconds
  std::uint64_t counted = 0, closed_form = 0, least = 0;
  double copied = 0;  // bytes of rows that the rank with most of them put on the wire and took from it

  double exchange() const { return dispatch + combine; }
};

struct Bench {
  Ranks& ranks;
  Compute compute;
  double copy_rate;  // bytes a second, all ranks copying at once
  int reps;

  Figures run(const Shape& shape, const Weights& weights, const ExpertTable& table, Routing routing,
              std::int64_t tokens) {
    Communicator& world = *ranks.world;
    const std::vector<std::int32_t> chosen = routed(routing, tokens, table, ranks.place.rank);
    const Rows<const std::int32_t> experts(chosen.data(), tokens, kChosen);
    ExpertExchange exchange(world, compute, shape.hidden, {{table}});
    const Rows<float> own = exchange.own_rows(tokens);
    for (std::int64_t i = 0; i < tokens * shape.hidden; ++i) {
      own.data[i] = round_bf16(static_cast<float>(i % 251) / 128.0F - 1.0F);
    }
    std::vector<float> gated;
    Figures figures;
    std::vector<double> dispatch, combine, product;
    for (int rep = 0; rep < reps + 1; ++rep) {  // the first one makes room
      barrier(world, "before a dispatch");
      const std::uint64_t before = world.traffic().bytes;
      const ExpertExchange::Arrived* arrived = nullptr;
      const double dispatch_seconds = seconds_of([&] { arrived = &exchange.dispatch(experts); });
      const std::uint64_t sent = world.traffic().bytes - before;
      gated.resize(static_cast<std::size_t>(arrived->outputs * shape.inner));
      std::vector<ExpertRows> work;
      for (std::size_t local = 0; local < arrived->rows.size(); ++local) {
        if (!arrived->rows[local].empty()) {
          work.push_back({&weights.expert(local), arrived->rows[local], arrived->first[local]});
        }
      }
      const Rows<float> outputs = exchange.outputs();
      const double product_seconds = seconds_of([&] {
        grouped_experts(compute, arrived->x, work, {gated.data(), arrived->outputs, shape.inner}, outputs);
      });
      barrier(world, "before a combine");
      const std::uint64_t between = world.traffic().bytes;
      const double combine_seconds = seconds_of([&] { exchange.combine(); });
      const std::uint64_t counted = sent + world.traffic().bytes - between;
      const auto form = exchange.closed_form(experts, arrived->outputs_by_rank);
      check_eq(counted, form.total(), "bytes are those of the closed form");
      if (rep == 0) {
        totals(figures, form, *arrived, tokens, shape);
        continue;
      }
      const auto slowest = [&](double own_seconds) {
        return std::ranges::max(all_gather_value(world, own_seconds, kGathering));
      };
      dispatch.push_back(slowest(dispatch_seconds));
      product.push_back(slowest(product_seconds));
      combine.push_back(slowest(combine_seconds));
    }
    figures.dispatch = median(dispatch);
    figures.product = median(product);
    figures.combine = median(combine);
    return figures;
  }

  // Bytes are the same in every repetition.
  void totals(Figures& figures, const ExpertExchange::ClosedForm& form, const ExpertExchange::Arrived& arrived,
              std::int64_t tokens, const Shape& shape) const {
    const double row = static_cast<double>(shape.hidden) * (compute.rounds() ? 2 : 4);
    const std::int64_t came = arrived.x.rows - tokens;
    const std::int64_t back = tokens * kChosen - arrived.outputs_by_rank[static_cast<std::size_t>(ranks.place.rank)];
    const double copied = static_cast<double>(form.payload()) + row * static_cast<double>(came + back);
    figures.copied = std::ranges::max(all_gather_value(*ranks.world, copied, kGathering));
    for (const auto& rank : all_gather_value(*ranks.world, form, kGathering)) {
      figures.closed_form += rank.total();
      figures.least += rank.payload();
    }
    figures.counted = figures.closed_form;  // checked rank by rank
  }

  double allowed(const Figures& f) const { return kProductShare * f.product + f.copied / (kCopyShare * copy_rate); }
};

// What std::memcpy moves while all ranks copy: bytes of the copied block a second.
double copy_rate(Communicator& world, int reps) {
  std::vector<std::byte> from(static_cast<std::size_t>(kCopyBytes), std::byte{1}), to(from.size());
  std::vector<double> seconds;
  for (int rep = 0; rep < reps + 1; ++rep) {
    barrier(world, "before a copy");
    const double one = seconds_of([&] { std::memcpy(to.data(), from.data(), from.size()); });
    check(to[static_cast<std::size_t>(rep)] == std::byte{1}, "bytes were copied");
    if (rep > 0) {
      seconds.push_back(one);
    }
  }
  return static_cast<double>(kCopyBytes) / std::ranges::max(all_gather_value(world, median(seconds), kGathering));
}

json::Object json_row(const Shape& shape, const char* routing, std::int64_t tokens, const Figures& f, double allowed) {
  json::Object row;
  row["model"] = shape.name;
  row["routing"] = routing;
  row["tokens_per_rank"] = tokens;
  row["bytes"] = f.counted;
  row["bytes_closed_form"] = f.closed_form;
  row["bytes_least"] = f.least;
  row["dispatch_seconds"] = f.dispatch;
  row["combine_seconds"] = f.combine;
  row["product_seconds"] = f.product;
  row["copied_bytes"] = f.copied;
  row["allowed_seconds"] = allowed;
  return row;
}

std::string text_row(const Shape& shape, const char* routing, std::int64_t tokens, const Figures& f, double allowed) {
  const double ratio = f.least > 0 ? static_cast<double>(f.counted) / static_cast<double>(f.least) : 1.0;
  return fmt::format("{:<10} {:<9} {:>5} {:>13} {:>13} {:>7.4f} {:>11.1f} {:>10.1f} {:>11.1f} {:>7.1f} {:>9.1f}\n",
                     shape.name, routing, tokens, f.counted, f.least, ratio, 1e6 * f.dispatch, 1e6 * f.combine,
                     1e6 * f.product, 100 * f.exchange() / f.product, 100 * allowed / f.product);
}

}  // namespace

int run_bench_exchange(const RunArguments& run, const BenchArguments& arguments) {
  return with_ranks(run, [&](Ranks& ranks, int threads) {
    ThreadPool pool(threads);
    set_fp_environment();
    const int reps = arguments.quick ? 2 : arguments.reps;
    Bench bench{ranks, {&body(run.body.empty() ? best_body() : body_named(run.body)), &pool, run.precision}, 0, reps};
    bench.copy_rate = copy_rate(*ranks.world, reps);
    const ExpertTable table = ExpertTable::contiguous(kExperts, ranks.layout.ranks());
    json::Array rows;
    std::string text = fmt::format(
        "{} rank(s), {} thread(s) each, {}, {}; memory copies at {:.1f} GB/s a rank; 128 experts, 8 chosen\n"
        "{:<10} {:<9} {:>5} {:>13} {:>13} {:>7} {:>11} {:>10} {:>11} {:>7} {:>9}\n",
        ranks.layout.ranks(), threads, bench.compute.body->name, bench.compute.rounds() ? "bf16" : "fp32",
        1e-9 * bench.copy_rate, "model", "routing", "T", "bytes", "least", "ratio", "dispatch us", "combine us",
        "product us", "over %", "allowed %");
    for (const Shape& shape : kShapes) {
      const Weights weights(shape, static_cast<int>(table.experts_of(ranks.place.rank).size()),
                            arguments.quick ? 0 : kWeightBytes);
      for (const auto& [routing, name] : kRoutings) {
        for (const std::int64_t tokens : {1, 8, 64, 512}) {
          if (arguments.quick && (tokens > 8 || shape.hidden > 2048)) {
            continue;
          }
          const Figures figures = bench.run(shape, weights, table, routing, tokens);
          rows.push_back(json_row(shape, name, tokens, figures, bench.allowed(figures)));
          text += text_row(shape, name, tokens, figures, bench.allowed(figures));
        }
      }
    }
    if (ranks.leader()) {
      json::Object all;
      all["ranks"] = ranks.layout.ranks();
      all["copy_bytes_per_second"] = bench.copy_rate;
      all["cases"] = std::move(rows);
      std::fputs((arguments.json ? boost::json::serialize(all) + "\n" : text).c_str(), stdout);
    }
    return 0;
  });
}

}  // namespace zoetrope
