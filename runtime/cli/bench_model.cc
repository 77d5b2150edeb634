// `zoetrope bench --model DIR`: prefill and decode of a model without media or text, for comparisons with peers.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>

#include "kernels/body.h"
#include "kernels/sample.h"
#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/cli/stopwatch.h"
#include "runtime/cli/terminal.h"
#include "runtime/json/json.h"
#include "runtime/model/model.h"

namespace zoetrope {
namespace {

// Streams of this member with `depth` tokens of context already there. The context is zero-filled pages that were really
// written: attention reads every byte of them, and its time does not depend on the values.
class Streams {
 public:
  Streams(Model& model, int streams, std::int64_t depth, std::int64_t tokens)
      : model_(model),
        pages_each_(static_cast<std::int32_t>(div_ceil<std::int64_t>(depth + tokens, kPageTokens))),
        cache_(model.kv_layout(), model.layers(), std::max(1, streams * pages_each_)),
        streams_(streams) {
    for (std::int32_t page = 0; page < streams_ * pages_each_; ++page) {
      cache_.open_page(page);
    }
    logits_.resize(static_cast<std::size_t>(std::max(1, streams)) * static_cast<std::size_t>(vocabulary()));
  }

  // `rows` tokens of every stream after `depth` tokens; logits of the last row of each.
  void step(std::int64_t depth, std::int64_t rows, const Compute& compute, bool draw) {
    StepInputs inputs;
    for (int stream = 0; stream < streams_; ++stream) {
      SequenceRows sequence{static_cast<std::int64_t>(inputs.tokens.size()), rows, {}};
      for (std::int64_t index = depth; index < depth + rows; ++index) {
        const auto position = static_cast<std::int32_t>(index);
        inputs.tokens.push_back(static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(vocabulary())));
        inputs.positions.push_back({position, position, position});
        inputs.indices.push_back(index);
        inputs.slots.push_back({page(stream, index), static_cast<int>(index % kPageTokens)});
      }
      for (std::int64_t first = 0; first < depth + rows; first += kPageTokens) {
        sequence.pages.push_back({page(stream, first), first, static_cast<int>(first / kPageTokens % kPageClasses),
                                  static_cast<int>(std::min<std::int64_t>(kPageTokens, depth + rows - first))});
      }
      inputs.logit_rows.push_back(static_cast<std::int64_t>(inputs.tokens.size()) - 1);
      inputs.sequences.push_back(std::move(sequence));
    }
    model_.forward(inputs, cache_, {logits_.data(), streams_, vocabulary()});
    for (int stream = 0; draw && stream < streams_; ++stream) {
      SamplingSettings greedy;
      greedy.temperature = 0;
      sample(compute, std::span(logits_).subspan(static_cast<std::size_t>(stream * vocabulary()), static_cast<std::size_t>(vocabulary())), {}, {},
             depth, greedy);
    }
  }

 private:
  std::int64_t vocabulary() const { return model_.config().text.vocabulary; }
  std::int32_t page(int stream, std::int64_t index) const {
    return stream * pages_each_ + static_cast<std::int32_t>(index / kPageTokens);
  }

  Model& model_;
  std::int32_t pages_each_;
  KvCache cache_;
  int streams_;
  std::vector<float> logits_;
  std::mt19937_64 random_{1};
};

struct Measured {
  std::vector<double> wall, cpu;
};

Measured measure(Model& model, Ranks& ranks, const Compute& compute, const RunArguments& run, const BenchArguments& bench) {
  const bool prefill = bench.test == "pp";
  const int all = bench.test == "batch" ? bench.streams : 1;
  const int own = static_cast<int>(dealt(all, ranks.place.member, ranks.layout.ring).count());
  Streams streams(model, own, bench.depth, bench.tokens);
  Measured measured;
  for (int rep = 0; rep < bench.reps + 1; ++rep) {
    barrier(*ranks.world, "benchmark repetition");
    const double wall = wall_seconds(), cpu = cpu_seconds();
    if (prefill) {
      for (std::int64_t at = 0; at < bench.tokens; at += run.chunk_tokens) {
        streams.step(bench.depth + at, std::min(run.chunk_tokens, bench.tokens - at), compute, false);
      }
    } else {
      for (std::int64_t token = 0; token < bench.tokens; ++token) {
        streams.step(bench.depth + token, 1, compute, true);
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
                                fmt::format("at most {} (the model's context)", checkpoint.config().text.positions_max), "lower one of them"});
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
      std::fputs(fmt::format("{} of {} tokens at depth {}, {} stream(s): median {:.4f} s, {:.2f} tokens/s; {} kernels, {} thread(s) per rank, {}\n", bench.test,
                             bench.tokens, bench.depth, bench.test == "batch" ? bench.streams : 1, wall, static_cast<double>(tokens) / wall,
                             options.compute.body->name, threads, zoetrope::described(ranks.layout))
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
