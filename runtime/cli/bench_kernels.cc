#include <fmt/format.h>

#include <cstdio>

#include "kernels/benchmark.h"
#include "kernels/body.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"

namespace zoetrope {

int run_bench_kernels(const RunArguments& run, const BenchArguments& bench) {
  if (MpiJob::launched_rank() != 0) {
    return 0;
  }
  ThreadPool pool(run.threads > 0 ? run.threads : 1);
  set_fp_environment();
  const Compute compute{&body(run.body.empty() ? best_body() : body_named(run.body)), &pool, run.precision};
  BenchSettings settings;
  settings.quick = bench.quick;
  std::vector<BenchRow> rows = bench_matmul(compute, settings);
  const std::vector<BenchRow> attention = bench_attention(compute, settings);
  rows.insert(rows.end(), attention.begin(), attention.end());
  std::fputs((bench.json ? bench_json(rows) : bench_table(rows)).c_str(), stdout);
  return 0;
}

}  // namespace zoetrope
