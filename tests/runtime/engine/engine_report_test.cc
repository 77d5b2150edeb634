// What the engine tells of its steps, in metrics and a trace.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

#include "tests/runtime/engine/engine_answers.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

double metric(const std::string& text, const std::string& series) {
  const auto at = text.find("\n" + series + " ");
  EXPECT_NE(at, std::string::npos) << series << " in\n" << text;
  return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
}

struct Event {
  std::string phase;
  std::int64_t rank = 0, index = -1;
  double begin = 0, duration = 0;
};
std::vector<Event> events_of(const fs::path& file) {
  const std::string text = text_of(file);
  const json::Value trace = json::parse(text, {"trace", Radius::kRequest});
  std::vector<Event> events;
  for (const json::Value& event : trace.at("traceEvents").as_array()) {
    if (event.at("ph").as_string() == "X") {
      const auto* const args = event.as_object().if_contains("args");
      events.push_back({std::string(event.at("name").as_string()), event.at("tid").as_int64(),
                        args == nullptr ? -1 : args->at("index").as_int64(), event.at("ts").to_number<double>(),
                        event.at("dur").to_number<double>()});
    }
  }
  return events;
}

TEST(Engine, TellsWhatItDidInMetricsAndATrace) {
  EngineSettings how = settings(256);
  how.report = {scratch("metrics"), scratch("trace")};
  const Answers plain = over({2, 2}, settings(256), film_questions());
  expect_equal(plain, over({2, 2}, how, film_questions()), "observed");
  const std::string metrics = text_of(how.report.metrics_file);
  double drawn = 0;
  for (const auto& [name, told] : plain) {
    drawn += static_cast<double>(told.tokens.size()) - 1;  // the last token drawn is not computed
  }
  EXPECT_EQ(metric(metrics, "zoetrope_decode_tokens_total"), drawn);
  EXPECT_GT(metric(metrics, "zoetrope_prefill_tokens_total"), 500);
  EXPECT_EQ(metric(metrics, "zoetrope_requests_total{outcome=\"stop\"}") +
                metric(metrics, "zoetrope_requests_total{outcome=\"length\"}"),
            5);
  const double tokens = drawn + metric(metrics, "zoetrope_prefill_tokens_total");
  double rows = 0;
  for (const char* rank : {"0", "1", "2", "3"}) {
    rows += metric(metrics, std::string("zoetrope_expert_rows_total{rank=\"") + rank + "\"}");
  }
  EXPECT_EQ(rows, tokens * 2 * 6);  // top 2, 6 layers
  EXPECT_GE(metric(metrics, "zoetrope_expert_load_max_over_mean_ratio"), 1);
  double pairs = 0;
  for (const auto& [name, told] : plain) {
    const double computed = static_cast<double>(told.prompt_tokens) + static_cast<double>(told.tokens.size()) - 1;
    pairs += computed * (computed + 1) / 2;
  }
  EXPECT_LE(metric(metrics, "zoetrope_attention_pairs_total{member=\"0\"}") +
                metric(metrics, "zoetrope_attention_pairs_total{member=\"1\"}"),
            pairs);
  EXPECT_GT(metric(metrics, "zoetrope_attention_pairs_total{member=\"0\"}") +
                metric(metrics, "zoetrope_attention_pairs_total{member=\"1\"}"),
            0.8 * pairs)
      << "but for the first tokens that prompts share";
  EXPECT_EQ(metric(metrics, "zoetrope_span_growths_total"), 0);
  EXPECT_GT(metric(metrics, "zoetrope_collective_bytes_total{axis=\"tp\"}"), 1e6);
  EXPECT_GT(metric(metrics, "zoetrope_collective_bytes_total{axis=\"stage\"}"), 1e6);
  EXPECT_GT(metric(metrics, "zoetrope_collective_bytes_total{axis=\"world\"}"), 1e4);
  EXPECT_EQ(metric(metrics, "zoetrope_collective_bytes_total{axis=\"pipe\"}"), 0);
  EXPECT_GT(metric(metrics, "zoetrope_transfer_exposed_seconds_total{axis=\"stage\"}"), 0);
  EXPECT_GT(metric(metrics, "zoetrope_transfer_hidden_seconds_total{axis=\"stage\"}"), 0);
  EXPECT_EQ(metrics.find("zoetrope_pipeline"), std::string::npos) << "there is no pipeline";

  std::map<std::string, std::set<std::int64_t>> lanes;  // of each phase
  std::map<std::pair<std::int64_t, std::string>, double> spent;
  for (const Event& event : events_of(how.report.trace_file)) {
    lanes[event.phase].insert(event.rank);
    spent[{event.rank, event.phase}] += event.duration;
    EXPECT_GE(event.begin, 0);
  }
  for (const char* phase : {"step", "forward", "attention", "dispatch", "experts", "combine", "head", "encode"}) {
    EXPECT_EQ(lanes[phase], (std::set<std::int64_t>{0, 1, 2, 3})) << phase;
  }
  EXPECT_EQ(lanes["plan"], (std::set<std::int64_t>{0}));
  EXPECT_EQ(lanes["draw"], (std::set<std::int64_t>{0, 2}));
  for (const std::int64_t rank : {0, 1, 2, 3}) {
    const auto of = [&](const char* name) { return spent[{rank, name}]; };
    EXPECT_LE(of("dispatch") + of("experts") + of("combine") + of("attention") + of("head"), of("forward"));
    EXPECT_LE(of("forward") + of("encode"), of("step"));
  }
  fs::remove(how.report.metrics_file);
  fs::remove(how.report.trace_file);
}

TEST(Engine, TellsWhereAPipelineWaitsAndWhatTheCacheHad) {
  EngineSettings how = settings(256);
  how.sequences_max = 1;
  how.report = {scratch("metrics"), scratch("trace")};
  const Answers answers = over({1, 1, 2}, how, questions_about_films());
  double cached = 0;
  for (const auto& [name, told] : answers) {
    cached += static_cast<double>(told.cached_tokens);
  }
  const std::string metrics = text_of(how.report.metrics_file);
  EXPECT_GT(cached, 0);
  EXPECT_EQ(metric(metrics, "zoetrope_prefix_cached_tokens_total"), cached);
  EXPECT_GT(metric(metrics, "zoetrope_kv_pages_kept{member=\"0\"}"), 0);
  EXPECT_EQ(metric(metrics, "zoetrope_kv_pages_in_use{member=\"0\"}"), 0);
  EXPECT_GT(metric(metrics, "zoetrope_collective_messages_total{axis=\"pipe\"}"), 0);
  EXPECT_EQ(metric(metrics, "zoetrope_collective_messages_total{axis=\"stage\"}"), 0);
  EXPECT_GT(metric(metrics, "zoetrope_pipeline_wait_seconds_total{stage=\"1\"}"), 0);
  const double bubble = metric(metrics, "zoetrope_pipeline_bubble_ratio");
  EXPECT_GT(bubble, 0.01);
  EXPECT_LT(bubble, 0.99);

  std::map<std::string, std::set<std::int64_t>> lanes;    // of each phase
  std::map<std::int64_t, std::set<std::int64_t>> layers;  // of each rank
  for (const Event& event : events_of(how.report.trace_file)) {
    lanes[event.phase].insert(event.rank);
    if (event.phase == "attention") {
      layers[event.rank].insert(event.index);
    }
  }
  EXPECT_EQ(lanes["hand-over"], (std::set<std::int64_t>{0, 1}));
  EXPECT_EQ(lanes["head"], (std::set<std::int64_t>{1}));
  EXPECT_EQ(lanes["draw"], (std::set<std::int64_t>{1}));
  EXPECT_EQ(layers[0].size() + layers[1].size(), 6U);
  EXPECT_EQ(*layers[0].rbegin() + 1, *layers[1].begin());
  fs::remove(how.report.metrics_file);
  fs::remove(how.report.trace_file);
}

}  // namespace
}  // namespace zoetrope::test
