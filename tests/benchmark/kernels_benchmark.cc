// The kernels alone, without the command line: kernels_benchmark [threads] [fp32|bf16] [body] [quick].
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "kernels/benchmark.h"
#include "kernels/body.h"

int main(int argc, char** argv) {
  using namespace zoetrope;
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 1);
  const Precision precision = argc > 2 && std::string_view(argv[2]) == "fp32" ? Precision::kFp32 : Precision::kBf16;
  const Compute compute{&body(argc > 3 ? body_named(argv[3]) : best_body()), &pool, precision};
  const BenchSettings settings{.quick = argc > 4};
  std::fputs(bench_table(bench_matmul(compute, settings)).c_str(), stdout);
  std::fputs(bench_table(bench_attention(compute, settings)).c_str(), stdout);
}
