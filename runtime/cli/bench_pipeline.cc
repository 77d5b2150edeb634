// `zoetrope bench pipeline`: how long the stages of a pipeline have nothing to do, beside the closed form.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/body.h"
#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "runtime/cli/bench_streams.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/cli/stopwatch.h"
#include "runtime/cli/terminal.h"
#include "runtime/engine/step_cost.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

constexpr std::array kWaves{1, 2, 4, 8, 16};

// One step as one rank saw it.
struct Seen {
  double wall = 0;                   // from the common start to the end of the last wave
  double busy = 0;                   // of it, not waiting for a neighbour
  double least = 0, most = 0, mean = 0;  // of a wave's busy time
};

Seen run_step(Streams& streams, Model& model, Ranks& ranks, std::int64_t depth, std::span<const std::int64_t> chunks) {
  barrier(*ranks.world, "benchmark repetition");
  Seen seen;
  const double began = wall_seconds();
  std::int64_t first = depth;
  for (std::size_t wave = 0; wave < chunks.size(); ++wave) {
    const double from = wall_seconds(), waited = model.pipe_wait_seconds();
    streams.step(first, chunks[wave], wave + 1 < chunks.size() ? chunks[wave + 1] : 0);
    const double busy = wall_seconds() - from - (model.pipe_wait_seconds() - waited);
    seen.least = wave == 0 ? busy : std::min(seen.least, busy);
    seen.most = std::max(seen.most, busy);
    seen.busy += busy;
    first += chunks[wave];
  }
  seen.wall = wall_seconds() - began;
  seen.mean = seen.busy / static_cast<double>(chunks.size());
  return seen;
}

// Share of the step in which the ranks of each stage had nothing to do, and how far its waves are apart in time.
struct Bubble {
  std::vector<double> idle, spread;  // by stage
  double wall = 0;
  double mean() const { return std::accumulate(idle.begin(), idle.end(), 0.0) / static_cast<double>(idle.size()); }
};

Bubble bubble_of(Ranks& ranks, const Seen& own) {
  const std::vector<Seen> seen = all_gather_value(*ranks.world, own, "times of the stages");
  Bubble bubble{std::vector<double>(static_cast<std::size_t>(ranks.layout.pp)),
                std::vector<double>(static_cast<std::size_t>(ranks.layout.pp)), 0};
  for (const Seen& one : seen) {
    bubble.wall = std::max(bubble.wall, one.wall);
  }
  for (std::size_t rank = 0; rank < seen.size(); ++rank) {
    const auto stage = static_cast<std::size_t>(place_of(ranks.layout, static_cast<int>(rank)).stage);
    bubble.idle[stage] += (1 - seen[rank].busy / bubble.wall) / ranks.layout.stage_ranks();
    bubble.spread[stage] = std::max(bubble.spread[stage], (seen[rank].most - seen[rank].least) / seen[rank].mean);
  }
  return bubble;
}

std::string joined(const std::vector<double>& values) {
  std::string text;
  for (const double value : values) {
    text += fmt::format("{}{:.3f}", text.empty() ? "" : " ", value);
  }
  return text;
}

json::Array measure(Model& model, Ranks& ranks, const BenchArguments& bench) {
  json::Array rows;
  Streams streams(model, 1, bench.depth + bench.tokens);
  const WaveCost cost = wave_cost(model.config().text);
  for (const int waves : kWaves) {
    const std::vector<std::int64_t> chunks = equal_chunks(cost, bench.depth, bench.tokens, waves);
    std::vector<Bubble> reps;
    for (int rep = 0; rep < bench.reps + 1; ++rep) {
      const Bubble one = bubble_of(ranks, run_step(streams, model, ranks, bench.depth, chunks));
      if (rep > 0) {  // the first one warms up
        reps.push_back(one);
      }
    }
    std::sort(reps.begin(), reps.end(), [](const Bubble& a, const Bubble& b) { return a.wall < b.wall; });
    const Bubble& middle = reps[reps.size() / 2];
    const double expected = bubble(ranks.layout.pp, static_cast<int>(chunks.size()));
    if (ranks.leader() && !bench.json) {
      std::fputs(fmt::format("{:>5} {:>6} {:>6} {:>9.3f} {:>9.3f} {:>11.3f} {:>7.3f}   {:<24} {}\n", chunks.size(),
                             chunks.front(), chunks.back(), middle.wall, middle.mean(), expected,
                             expected > 0 ? middle.mean() / expected : 1.0, joined(middle.idle), joined(middle.spread))
                     .c_str(),
                 stdout);
      std::fflush(stdout);
    }
    rows.push_back(json::Object{{"waves", static_cast<std::int64_t>(chunks.size())},
                                {"first_rows", chunks.front()},
                                {"last_rows", chunks.back()},
                                {"wall", middle.wall},
                                {"idle", json::Array(middle.idle.begin(), middle.idle.end())},
                                {"spread", json::Array(middle.spread.begin(), middle.spread.end())},
                                {"closed_form", expected}});
  }
  return rows;
}

}  // namespace

int run_bench_pipeline(const RunArguments& run, const BenchArguments& bench) {
  return with_ranks(run, [&](Ranks& ranks, int threads) {
    const Checkpoint checkpoint = Checkpoint::open(model_folder(run));
    ThreadPool pool(threads);
    set_fp_environment();
    Model::Options options;
    options.compute = {&body(run.body.empty() ? best_body() : body_named(run.body)), &pool, run.precision};
    options.shared_rows_max = bench.tokens;
    Progress loading("loading", "%", ranks.leader() && !bench.json);
    options.progress = [&](double part) { loading.update(100 * part, 100); };
    const std::unique_ptr<Model> model = Model::load(checkpoint, ranks, options);
    loading.finish();
    if (ranks.leader() && !bench.json) {
      std::fputs(fmt::format("{} tokens of prefill at depth {}; {} kernels, {} thread(s) per rank, {}; layers {}\n"
                             "waves  first   last   seconds      idle  (P-1)/(M+P-1) of it   idle by stage            "
                             "spread of a stage's waves\n",
                             bench.tokens, bench.depth, options.compute.body->name, threads, described(ranks.layout),
                             checkpoint.config().text.layers)
                     .c_str(),
                 stdout);
    }
    const json::Array rows = measure(*model, ranks, bench);
    if (ranks.leader() && bench.json) {
      std::fputs((boost::json::serialize(rows) + "\n").c_str(), stdout);
    }
    return 0;
  });
}

}  // namespace zoetrope
