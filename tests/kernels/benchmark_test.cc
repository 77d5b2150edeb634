#include "kernels/benchmark.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/body.h"

namespace zoetrope {
namespace {

TEST(Benchmark, CeilingsComeFirstAndFractionsFollowThem) {
  ThreadPool pool(1);
  const Compute compute{&body(best_body()), &pool, Precision::kBf16};
  std::int64_t last_call = -1;
  bool in_order = true;
  const BenchCase idle{
      .op = "idle", .shape = "none", .m = 3, .flops = 1e6, .bytes = 2e6, .run = [&](std::int64_t call) {
        in_order = in_order && call == last_call + 1;
        last_call = call;
        volatile double x = 0.0;
        for (int i = 0; i < 20000; ++i) {
          x = x + 1.0;
        }
      }};
  const auto rows = bench_cases(compute, {.quick = true}, {idle});
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].op, "read");
  EXPECT_EQ(rows[1].op, "read");
  EXPECT_DOUBLE_EQ(std::max(rows[0].bandwidth_fraction, rows[1].bandwidth_fraction), 1.0);
  EXPECT_EQ(rows[2].op, "multiply-add");
  EXPECT_DOUBLE_EQ(rows[2].peak_fraction, 1.0);
  EXPECT_TRUE(in_order);
  EXPECT_GT(rows[3].seconds, 0.0);
  const double peak = rows[2].flops / rows[2].seconds;
  const double bandwidth = rows[0].bytes / std::min(rows[0].seconds, rows[1].seconds);
  EXPECT_NEAR(rows[3].peak_fraction, 1e6 / rows[3].seconds / peak, 1e-9);
  EXPECT_NEAR(rows[3].bandwidth_fraction, 2e6 / rows[3].seconds / bandwidth, 1e-9);
}

// One thread is timed on its CPU clock, which a busy machine hardly moves: no kernel is then faster than multiply-adds
// between registers. Several threads are timed on the wall clock, where a neighbour may hold back either of the two.
TEST(Benchmark, ProductsAndAttentionGiveFigures) {
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    const Compute compute{&body(best_body()), &pool, Precision::kBf16};
    for (const auto& rows : {bench_matmul(compute, {.quick = true}), bench_attention(compute, {.quick = true})}) {
      ASSERT_GT(rows.size(), 4u);
      for (const BenchRow& row : rows) {
        EXPECT_GT(row.seconds, 0.0) << row.op << " " << row.shape;
        EXPECT_EQ(row.threads, threads);
        if (threads == 1) {
          EXPECT_LT(row.peak_fraction, 1.5) << row.op << " " << row.shape;
        }
      }
    }
  }
}

TEST(Benchmark, PrintsTableAndJson) {
  const std::vector<BenchRow> rows{{"down", "30B", 8, 2, 0.5, 1e9, 2e9, 0.25, 0.75}};
  const std::string table = bench_table(rows);
  EXPECT_NE(table.find("down"), std::string::npos);
  EXPECT_NE(table.find("25.0"), std::string::npos);
  EXPECT_NE(table.find("75.0"), std::string::npos);
  EXPECT_EQ(bench_json(rows),
            "[\n  {\"op\": \"down\", \"shape\": \"30B\", \"m\": 8, \"threads\": 2, \"seconds\": 0.5, \"flops\": 1e+09, "
            "\"bytes\": 2e+09, \"peak_fraction\": 0.25, \"bandwidth_fraction\": 0.75}\n]\n");
  EXPECT_EQ(bench_json({}), "[\n]\n");
}

}  // namespace
}  // namespace zoetrope
