#include "monitoring/metrics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include "monitoring/catalogue.h"
#include "monitoring/error.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

constexpr double kBuckets[] = {0.1, 1, 10};
constexpr MetricInfo kBytes{"test_bytes_total", MetricKind::kCounter, "Bytes \\ sent\nover \"wires\".", "axis"};
constexpr MetricInfo kPages{"test_pages", MetricKind::kGauge, "Pages."};
constexpr MetricInfo kSeconds{"test_seconds", MetricKind::kHistogram, "Seconds.", {}, kBuckets};

std::string read(const fs::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

fs::path fresh(const std::string& name) {
  return fs::temp_directory_path() / (name + "." + std::to_string(::getpid()));
}

TEST(Metrics, ExposeThemselvesAsPrometheusReads) {
  Metrics metrics;
  metrics.counter(kBytes, "ring").add(3);
  metrics.gauge(kPages).set(-2.5);
  Histogram& seconds = metrics.histogram(kSeconds);
  for (const double value : {0.05, 0.1, 0.5, 200.0}) {
    seconds.observe(value);
  }
  metrics.counter(kBytes, "a\"b\\c\nd").add(1e18);
  metrics.counter(kBytes, "ring").add(1);
  EXPECT_EQ(metrics.text(),
            "# HELP test_bytes_total Bytes \\\\ sent\\nover \"wires\".\n"
            "# TYPE test_bytes_total counter\n"
            "test_bytes_total{axis=\"ring\"} 4\n"
            "test_bytes_total{axis=\"a\\\"b\\\\c\\nd\"} 1e+18\n"
            "# HELP test_pages Pages.\n"
            "# TYPE test_pages gauge\n"
            "test_pages -2.5\n"
            "# HELP test_seconds Seconds.\n"
            "# TYPE test_seconds histogram\n"
            "test_seconds_bucket{le=\"0.1\"} 2\n"
            "test_seconds_bucket{le=\"1\"} 3\n"
            "test_seconds_bucket{le=\"10\"} 3\n"
            "test_seconds_bucket{le=\"+Inf\"} 4\n"
            "test_seconds_sum 200.65\n"
            "test_seconds_count 4\n");
}

TEST(Metrics, ASeriesIsOneObjectForAllThreads) {
  Metrics metrics;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      Counter& bytes = metrics.counter(kBytes, "tp");
      for (int n = 0; n < 10000; ++n) {
        bytes.add(1);
        metrics.histogram(kSeconds).observe(0.5);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(metrics.counter(kBytes, "tp").value(), 40000);
  EXPECT_EQ(metrics.histogram(kSeconds).cumulative().back(), 40000U);
}

TEST(MetricsDeath, MetricsAreUsedAsWhatTheyAre) {
  Metrics metrics;
  EXPECT_DEATH(metrics.gauge(kBytes, "ring"), "as what it is");
  EXPECT_DEATH(metrics.counter(kBytes), "has a value");
  EXPECT_DEATH(metrics.counter(kBytes, "ring").add(-1), "only grows");
  metrics.counter(kBytes, "ring").set_total(5);
  EXPECT_DEATH(metrics.counter(kBytes, "ring").set_total(4), "only grows");
}

// https://prometheus.io/docs/practices/naming/
TEST(Catalogue, NamesFollowTheConventions) {
  std::vector<std::string_view> names;
  for (const MetricInfo* info : catalogue::kAll) {
    names.push_back(info->name);
    EXPECT_TRUE(info->name.starts_with("zoetrope_")) << info->name;
    EXPECT_EQ(info->name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string_view::npos) << info->name;
    EXPECT_EQ(info->name.ends_with("_total"), info->kind == MetricKind::kCounter) << info->name;
    EXPECT_EQ(info->buckets.empty(), info->kind != MetricKind::kHistogram) << info->name;
    EXPECT_EQ(info->kind == MetricKind::kHistogram, info->name.ends_with("_seconds")) << info->name;
    EXPECT_TRUE(info->help.ends_with(".")) << info->name;
    EXPECT_TRUE(info->label.empty() || info->label == "axis" || info->label == "rank" || info->label == "member" ||
                info->label == "stage" || info->label == "outcome")
        << info->name;
  }
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
}

TEST(MetricsFileTest, IsWrittenNowAndThenAndAtTheEnd) {
  const fs::path file = fresh("metrics");
  Metrics metrics;
  Counter& bytes = metrics.counter(kBytes, "ring");
  {
    const MetricsFile writer(metrics, file, std::chrono::milliseconds(20));
    EXPECT_EQ(read(file), metrics.text());
    bytes.add(7);
    for (int i = 0; i < 500 && read(file) != metrics.text(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_EQ(read(file), metrics.text());
  }
  {
    const MetricsFile writer(metrics, file, std::chrono::hours(1));
    bytes.add(1);
  }
  EXPECT_NE(read(file).find("test_bytes_total{axis=\"ring\"} 8\n"), std::string::npos);
  EXPECT_FALSE(fs::exists(file.string() + ".part"));
  fs::remove(file);
}

TEST(MetricsFileTest, SaysWhyItCannotBeMade) {
  const Metrics metrics;
  try {
    const MetricsFile writer(metrics, "/proc/no/such/place", std::chrono::hours(1));
    FAIL() << "a file in no folder";
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    EXPECT_NE(std::string(error.what()).find("No such file"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace zoetrope
