#include "kernels/benchmark.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <span>

#include "kernels/body.h"
#include "kernels/large_memory.h"
#include "monitoring/check.h"

namespace zoetrope {
namespace {

// Larger than the last-level caches of a core's share, so that what is read comes from memory.
constexpr std::int64_t kReadBytes = std::int64_t{256} << 20;
constexpr std::int64_t kReadPiece = std::int64_t{1} << 20;

double seconds_now(const Compute& compute) {
  timespec now{};
  clock_gettime(compute.pool->threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

BenchCase read_case(const Compute& compute, std::span<const std::byte> memory, int streams) {
  BenchCase result{
      .op = "read",
      .shape = fmt::format("{} MB in {}", memory.size() >> 20, streams == 1 ? "one stream" : "four streams"),
      .m = 0,
      .flops = 0.0,
      .bytes = static_cast<double>(memory.size()),
      .run = {}};
  result.run = [&compute, memory, streams](std::int64_t) {
    const auto pieces = static_cast<std::int64_t>(memory.size()) / kReadPiece;
    compute.pool->parallel_for(pieces, [&](std::int64_t piece, int) {
      volatile std::uint32_t digest =
          compute.body->matmul.read_memory(memory.data() + piece * kReadPiece, kReadPiece, streams);
      (void)digest;
    });
  };
  return result;
}

BenchCase multiply_case(const Compute& compute) {
  const auto rounds_of = [&compute](std::int64_t rounds) {
    return compute.body->matmul.multiply_in_registers(rounds, compute.rounds());
  };
  constexpr std::int64_t kRounds = 20000;
  BenchCase result{.op = "multiply-add", .shape = "registers", .m = 0, .flops = 0.0, .bytes = 0.0, .run = {}};
  result.flops = rounds_of(1) * kRounds * 8 * compute.pool->threads();
  result.run = [&compute, rounds_of](std::int64_t) {
    compute.pool->parallel_for(8 * compute.pool->threads(), [&](std::int64_t, int) { rounds_of(kRounds); });
  };
  return result;
}

std::string rate(double amount, double seconds) {
  return amount > 0.0 ? fmt::format("{:.1f}", amount / seconds * 1e-9) : "";
}
std::string percent(double fraction) { return fraction > 0.0 ? fmt::format("{:.1f}", 100.0 * fraction) : ""; }

}  // namespace

std::vector<BenchRow> bench_cases(const Compute& compute, const BenchSettings& settings,
                                  const std::vector<BenchCase>& cases) {
  const auto read_bytes = static_cast<std::size_t>(settings.quick ? kReadBytes / 8 : kReadBytes);
  const LargeMemory owner = large_memory(read_bytes);
  std::fill_n(owner.get(), read_bytes, std::byte{1});
  const std::span<const std::byte> memory(owner.get(), read_bytes);
  std::vector<BenchCase> all{read_case(compute, memory, 1), read_case(compute, memory, 4), multiply_case(compute)};
  all.insert(all.end(), cases.begin(), cases.end());

  // Short calls are timed many at once: the clock costs about a microsecond.
  const double round_seconds = settings.quick ? 1e-3 : 20e-3;
  std::vector<std::int64_t> calls(all.size(), 0), done(all.size(), 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double begin = seconds_now(compute);
    all[i].run(done[i]++);
    calls[i] = std::clamp<std::int64_t>(
        static_cast<std::int64_t>(round_seconds / (seconds_now(compute) - begin + 1e-9)), 1, 1000);
  }
  std::vector<std::vector<double>> seconds(all.size());
  const int rounds = settings.quick ? 3 : 9;
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      const double begin = seconds_now(compute);
      for (std::int64_t call = 0; call < calls[i]; ++call) {
        all[i].run(done[i]++);
      }
      seconds[i].push_back((seconds_now(compute) - begin) / static_cast<double>(calls[i]));
    }
  }

  const double bandwidth = all[0].bytes / std::min(median(seconds[0]), median(seconds[1]));
  const double peak = all[2].flops / median(seconds[2]);
  std::vector<BenchRow> rows;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double once = median(seconds[i]);
    rows.push_back({all[i].op, all[i].shape, all[i].m, compute.pool->threads(), once, all[i].flops, all[i].bytes,
                    all[i].flops / once / peak, all[i].bytes / once / bandwidth});
  }
  return rows;
}

std::string bench_table(const std::vector<BenchRow>& rows) {
  std::string text = fmt::format("{:<14} {:<28} {:>6} {:>7} {:>12} {:>9} {:>9} {:>7} {:>7}\n", "op", "shape", "M",
                                 "threads", "us", "GF/s", "GB/s", "% peak", "% read");
  for (const BenchRow& row : rows) {
    text += fmt::format("{:<14} {:<28} {:>6} {:>7} {:>12.1f} {:>9} {:>9} {:>7} {:>7}\n", row.op, row.shape, row.m,
                        row.threads, row.seconds * 1e6, rate(row.flops, row.seconds), rate(row.bytes, row.seconds),
                        percent(row.peak_fraction), percent(row.bandwidth_fraction));
  }
  return text;
}

std::string bench_json(const std::vector<BenchRow>& rows) {
  std::string text = "[";
  for (const BenchRow& row : rows) {
    text += fmt::format(
        "{}\n  {{\"op\": \"{}\", \"shape\": \"{}\", \"m\": {}, \"threads\": {}, \"seconds\": {:.9g}, \"flops\": "
        "{:.9g}, "
        "\"bytes\": {:.9g}, \"peak_fraction\": {:.6g}, \"bandwidth_fraction\": {:.6g}}}",
        text.size() > 1 ? "," : "", row.op, row.shape, row.m, row.threads, row.seconds, row.flops, row.bytes,
        row.peak_fraction, row.bandwidth_fraction);
  }
  return text + "\n]\n";
}

}  // namespace zoetrope
