#include "runtime/engine/step_report.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

bool has(const std::string& text, const std::string& line) {
  return text.find("\n" + line + "\n") != std::string::npos;
}

TEST(StepReportTest, SumsWhatRanksCounted) {
  const Layout layout{.ring = 2, .tp = 1};
  StepReport report({}, layout, 40, {"a", "b"});
  StepPlan plan;
  plan.chunks = {
      {.id = RequestId{1}, .first_token = 0, .tokens = 100, .new_pages = {}, .sampled = {}, .drawn_tokens = {}},
      {.id = RequestId{2}, .first_token = 7, .tokens = 1, .new_pages = {}, .sampled = {7}, .drawn_tokens = {5}}};
  plan.encode = {{RequestId{1}, 0}, {RequestId{1}, 1}};
  plan.starts.resize(2);
  plan.starts[1].cached_tokens = 77;
  plan.growths = {{RequestId{1}, {.members = 2, .first_member = 0, .ring = 2}, {5, 7}}};
  std::vector<StepResult> results(2);
  results[0].encode_seconds = 0.5;
  results[1].encode_seconds = 2;
  results[0].film_decode_seconds = 3;
  results[0].counters.expert_rows = 30;
  results[1].counters.expert_rows = 10;
  results[0].counters.axes[0] = {.messages = 2, .bytes = 100};
  results[1].counters.axes[0] = {.messages = 3, .bytes = 50};
  results[1].counters.attention_pairs = 5050;
  results[0].counters.transfers[3] = {.exposed = 0.25, .hidden = 2};
  results[1].counters.transfers[3] = {.exposed = 0.5, .hidden = 1};
  report.step(plan, results, 4);
  results[1].counters.axes[0].bytes = 51;  // totals, not what the step added
  plan.chunks.erase(plan.chunks.begin());
  plan.encode.clear();
  plan.starts.clear();
  plan.growths.clear();
  report.step(plan, results, 0.02);
  report.step({}, results, 0.5);  // nothing to compute: not a step, but films were decoded meanwhile

  Planner planner(layout,
                  {.context_tokens_max = 1000, .pages_per_member = 40, .chunk_tokens_max = 128, .sequences_max = 4});
  planner.submit({.id = RequestId{3}, .prompt_tokens = 300, .new_tokens_max = 10, .units = {}});
  planner.plan();
  report.committed({{RequestId{1}, FinishReason::kLength}}, planner);

  const std::string text = report.metrics().text();
  for (const char* line : {"zoetrope_steps_total 2",
                           "zoetrope_prefill_tokens_total 100",
                           "zoetrope_prefix_cached_tokens_total 77",
                           "zoetrope_decode_tokens_total 2",
                           "zoetrope_visual_units_total 2",
                           "zoetrope_requests_total{outcome=\"length\"} 1",
                           "zoetrope_requests_total{outcome=\"stop\"} 0",
                           "zoetrope_sequences_running 1",
                           "zoetrope_kv_pages{member=\"1\"} 40",
                           "zoetrope_kv_pages_kept{member=\"0\"} 0",
                           "zoetrope_encode_seconds_sum 2",
                           "zoetrope_film_decode_seconds_total 9",
                           "zoetrope_encode_seconds_count 1",
                           "zoetrope_prefill_step_seconds_sum 4",
                           "zoetrope_decode_step_seconds_sum 0.02",
                           "zoetrope_expert_rows_total{rank=\"1\"} 10",
                           "zoetrope_expert_load_max_over_mean_ratio 1.5",
                           "zoetrope_collective_bytes_total{axis=\"world\"} 151",
                           "zoetrope_collective_messages_total{axis=\"world\"} 5",
                           "zoetrope_transfer_exposed_seconds_total{axis=\"ring\"} 0.75",
                           "zoetrope_span_growths_total 1",
                           "zoetrope_kv_pages_moved_total 2",
                           "zoetrope_attention_pairs_total{member=\"1\"} 5050",
                           "zoetrope_transfer_hidden_seconds_total{axis=\"ring\"} 3",
                           "zoetrope_transfer_hidden_seconds_total{axis=\"tp\"} 0"}) {
    EXPECT_TRUE(has(text, line)) << line << " in\n" << text;
  }
  EXPECT_TRUE(has(text, "zoetrope_kv_pages_in_use{member=\"0\"} 2")) << text;
  EXPECT_TRUE(has(text, "zoetrope_kv_pages_in_use{member=\"1\"} 0")) << text;
}

// A stage with more layers has more pairs to compute: that is no imbalance of its experts.
TEST(StepReportTest, ImbalanceIsThatOfTheRanksOfAStage) {
  StepReport report({}, {.ring = 2, .tp = 1, .pp = 2}, 40, {"a", "b", "c", "d"});
  StepPlan plan;
  plan.chunks = {
      {.id = RequestId{1}, .first_token = 0, .tokens = 10, .new_pages = {}, .sampled = {}, .drawn_tokens = {}}};
  std::vector<StepResult> results(4);
  const auto ratio = [&](std::array<std::uint64_t, 4> rows) {
    for (std::size_t rank = 0; rank < 4; ++rank) {
      results[rank].counters.expert_rows = rows[rank];
    }
    report.step(plan, results, 1);
    const std::string text = report.metrics().text();
    const std::string name = "\nzoetrope_expert_load_max_over_mean_ratio ";
    const auto at = text.find(name);
    return at == std::string::npos ? -1.0 : std::stod(text.substr(at + name.size()));
  };
  EXPECT_EQ(ratio({30, 30, 10, 10}), 1);
  EXPECT_EQ(ratio({40, 40, 30, 10}), 1.5);
  EXPECT_EQ(ratio({75, 45, 40, 40}), 1.25);
}

// Two stages of two ranks and three equal waves: a stage is idle for one turn of four, the first one at the end.
TEST(StepReportTest, TheBubbleIsTheShareOfTimeWithoutRows) {
  StepReport report({}, {.ring = 2, .tp = 1, .pp = 2}, 40, {"a", "b", "c", "d"});
  StepPlan plan;
  plan.chunks = {
      {.id = RequestId{1}, .first_token = 0, .tokens = 10, .new_pages = {}, .sampled = {}, .drawn_tokens = {}}};
  std::vector<StepResult> results(4);
  const auto step = [&](std::array<double, 2> forward, std::array<double, 2> waited) {
    for (std::size_t rank = 0; rank < 4; ++rank) {
      results[rank].counters.forward_seconds += forward[rank / 2];
      results[rank].counters.pipe_wait_seconds += waited[rank / 2];
    }
    report.step(plan, results, 1);
    return report.metrics().text();
  };
  std::string text = step({3, 4}, {0, 1});
  for (const char* line : {"zoetrope_pipeline_bubble_ratio 0.25", "zoetrope_pipeline_wait_seconds_total{stage=\"0\"} 0",
                           "zoetrope_pipeline_wait_seconds_total{stage=\"1\"} 2"}) {
    EXPECT_TRUE(has(text, line)) << line << " in\n" << text;
  }
  text = step({1, 2}, {0, 1});  // one wave: each stage is idle for one turn of two
  for (const char* line : {"zoetrope_pipeline_wait_seconds_total{stage=\"1\"} 4"}) {
    EXPECT_TRUE(has(text, line)) << line << " in\n" << text;
  }
  EXPECT_NE(text.find("\nzoetrope_pipeline_bubble_ratio 0.3333"), std::string::npos) << "8 of 24 seconds\n" << text;
}

TEST(StepReportTest, FilesThatCannotBeMadeAreRefused) {
  EXPECT_THROW(StepReport({"/proc/no/metrics", {}}, {}, 1, {"a"}), Error);
  EXPECT_THROW(StepReport({{}, "/proc/no/trace"}, {}, 1, {"a"}), Error);
}

}  // namespace
}  // namespace zoetrope
