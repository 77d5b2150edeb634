// One function per command; each returns the exit code.
#pragma once

#include "runtime/cli/arguments.h"

namespace zoetrope {

int run_ask(const RunArguments& run, const AskArguments& ask);
int run_batch(const RunArguments& run, const BatchArguments& batch);
int run_inspect(const RunArguments& run, const InspectArguments& inspect);
int run_bench_kernels(const RunArguments& run, const BenchArguments& bench);
int run_bench_ring(const RunArguments& run, const BenchArguments& bench);
int run_bench_fabric(const RunArguments& run, const BenchArguments& bench);
int run_bench_exchange(const RunArguments& run, const BenchArguments& bench);
int run_bench_model(const RunArguments& run, const BenchArguments& bench);
int run_bench_pipeline(const RunArguments& run, const BenchArguments& bench);
int run_version();

}  // namespace zoetrope
