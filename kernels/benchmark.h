// How fast the kernels are on this machine, each beside the ceilings measured in the same seconds: what
// `zoetrope bench kernels` prints. One thread is timed on its CPU clock, several on the wall clock.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/compute.h"

namespace zoetrope {

struct BenchSettings {
  bool quick = false;  // fewer repetitions and less memory: a smoke test, not a figure to quote
};

struct BenchRow {
  std::string op;     // "read", "multiply-add" (the ceilings), "gate_up", "down", "experts", ...
  std::string shape;
  std::int64_t m = 0;  // rows
  int threads = 0;
  double seconds = 0.0;  // median of one call
  double flops = 0.0;    // of one call, a multiply-and-add counts as 2
  double bytes = 0.0;    // that one call has to read
  double peak_fraction = 0.0;       // flops / seconds against the multiply-adds of this body in registers
  double bandwidth_fraction = 0.0;  // bytes / seconds against reading memory in order
};

// Something to time: `run(i)` is the i-th call, and must read other memory than the call before it did.
struct BenchCase {
  std::string op, shape;
  std::int64_t m = 0;
  double flops = 0.0;
  double bytes = 0.0;
  std::function<void(std::int64_t call)> run;
};

// The median of interleaved repetitions of every case; the ceilings are measured in the same rounds and come
// first; that of reading is the faster of one stream and four.
std::vector<BenchRow> bench_cases(const Compute& compute, const BenchSettings& settings,
                                  const std::vector<BenchCase>& cases);

std::vector<BenchRow> bench_matmul(const Compute& compute, const BenchSettings& settings = {});
std::vector<BenchRow> bench_attention(const Compute& compute, const BenchSettings& settings = {});

std::string bench_table(const std::vector<BenchRow>& rows);
std::string bench_json(const std::vector<BenchRow>& rows);  // one array, one object a row

}  // namespace zoetrope
