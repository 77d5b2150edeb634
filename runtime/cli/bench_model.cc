// `zoetrope bench --model DIR`: prefill and decode of a model without media or text, for comparisons with peers.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "kernels/body.h"
#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "runtime/cli/bench_streams.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/cli/stopwatch.h"
#include "runtime/cli/terminal.h"
#include "runtime/json/json.h"
#include "runtime/model/model.h"

namespace zoetrope {
namespace {

struct Measured {
  std::vector<double> wall, cpu;
};

Measured measure(Model& model, Ranks& ranks, const Compute& compute, const RunArguments& run,
                 const BenchArguments& bench) {
  const bool prefill = bench.test == "pp";
  const int all = bench.test == "batch" ? bench.streams : 1;
  const int own = static_cast<int>(dealt(all, ranks.place.member, ranks.layout.ring).count());
  Streams streams(model, own, bench.depth + bench.tokens);
  Measured measured;
  for (int rep = 0; rep < bench.reps + 1; ++rep) {
    barrier(*ranks.world, "benchmark repetition");
    const double wall = wall_seconds(), cpu = cpu_seconds();
    if (prefill) {
      for (std::int64_t at = 0; at < bench.tokens; at += run.chunk_tokens) {
        streams.step(bench.depth + at, std::min(run.chunk_tokens, bench.tokens - at));
      }
    } else {
      for (std::int64_t token = 0; token < bench.tokens; ++token) {
        streams.step(bench.depth + token, 1);
        streams.draw(compute, bench.depth + token);
      }
    }
    if (rep > 0) {  // the first one warms up
      measured.wall.push_back(wall_seconds() - wall);
      measured.cpu.push_back(cpu_seconds() - cpu);
    }
  }
  return measured;
}

}  // namespace

int run_bench_model(const RunArguments& run, const BenchArguments& bench) {
  return with_ranks(run, [&](Ranks& ranks, int threads) {
    const double started = wall_seconds();
    const Checkpoint checkpoint = Checkpoint::open(model_folder(run));
    if (bench.depth + bench.tokens > checkpoint.config().text.positions_max) {
      refuse(Radius::kStartup, {"--depth + --tokens", fmt::format("{}", bench.depth + bench.tokens),
                                fmt::format("at most {} (the model's context)", checkpoint.config().text.positions_max),
                                "lower one of them"});
    }
    ThreadPool pool(threads);
    set_fp_environment();
    Model::Options options;
    options.compute = {&body(run.body.empty() ? best_body() : body_named(run.body)), &pool, run.precision};
    Progress loading("loading", "%", ranks.leader() && !bench.json);
    options.progress = [&](double part) { loading.update(100 * part, 100); };
    const std::unique_ptr<Model> model = Model::load(checkpoint, ranks, options);
    loading.finish();
    const double load = wall_seconds() - started;
    const Measured measured = measure(*model, ranks, options.compute, run, bench);
    if (!ranks.leader()) {
      return 0;
    }
    const std::int64_t tokens = bench.tokens * (bench.test == "batch" ? bench.streams : 1);
    if (!bench.json) {
      const double wall = median(measured.wall);
      std::fputs(fmt::format("{} of {} tokens at depth {}, {} stream(s): median {:.4f} s, {:.2f} tokens/s; {} kernels, "
                             "{} thread(s) per rank, {}\n",
                             bench.test, bench.tokens, bench.depth, bench.test == "batch" ? bench.streams : 1, wall,
                             static_cast<double>(tokens) / wall, options.compute.body->name, threads,
                             zoetrope::described(ranks.layout))
                     .c_str(),
                 stdout);
    }
    json::Object line;
    line["wall"] = json::Array(measured.wall.begin(), measured.wall.end());
    line["cpu"] = json::Array(measured.cpu.begin(), measured.cpu.end());
    line["tokens"] = tokens;
    line["load"] = load;
    std::fputs((boost::json::serialize(line) + "\n").c_str(), stdout);
    return 0;
  });
}

}  // namespace zoetrope
