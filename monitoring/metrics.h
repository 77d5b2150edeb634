// Counters, gauges and histograms in the exposition format of Prometheus (text, version 0.0.4). A value is looked up
// once and kept as a reference; changing it is one atomic operation, from any thread. No server here: text() is what
// one would serve, MetricsFile writes it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace zoetrope {

enum class MetricKind { kCounter, kGauge, kHistogram };

// One line of the catalogue (catalogue.h). Names follow Prometheus: base units last, counters end in _total.
struct MetricInfo {
  std::string_view name;
  MetricKind kind = MetricKind::kCounter;
  std::string_view help;
  std::string_view label = {};           // name of the one label, or empty; its values are a small closed set
  std::span<const double> buckets = {};  // of a histogram: upper bounds, ascending; +Inf is added
};

class Counter {
 public:
  void add(double amount);       // >= 0
  void set_total(double total);  // for totals that somebody else counts; never falls
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0.0};
};

class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0.0};
};

class Histogram {
 public:
  explicit Histogram(std::span<const double> buckets) : buckets_(buckets), counts_(buckets.size() + 1) {}
  void observe(double value);
  std::span<const double> buckets() const { return buckets_; }
  // Observations up to and including buckets()[i]; one more for all.
  std::vector<std::uint64_t> cumulative() const;
  double sum() const { return sum_.value(); }

 private:
  std::span<const double> buckets_;
  std::vector<std::atomic<std::uint64_t>> counts_;
  Counter sum_;
};

class Metrics {
 public:
  // The value of `info` for a label value (empty where the metric has no label): made at the first call, the same
  // object afterwards. References live as long as the Metrics.
  Counter& counter(const MetricInfo& info, std::string_view label_value = {});
  Gauge& gauge(const MetricInfo& info, std::string_view label_value = {});
  Histogram& histogram(const MetricInfo& info, std::string_view label_value = {});

  // Everything that was asked for, in that order, families together, each with HELP and TYPE.
  std::string text() const;

 private:
  struct Series {
    std::string label_value;
    Counter counter;
    Gauge gauge;
    std::unique_ptr<Histogram> histogram;
  };
  struct Family {
    MetricInfo info;
    std::deque<Series> series;  // stay where they are
  };
  Series& series(const MetricInfo& info, MetricKind kind, std::string_view label_value);

  mutable std::mutex mutex_;
  std::deque<Family> families_;
};

// Writes the text to a file every `period` and when it is destroyed: to a file beside it first, which then takes its
// place, so that a reader never sees half of it. Error(kStartup) when the first writing fails; a later failure is
// logged.
class MetricsFile {
 public:
  MetricsFile(const Metrics& metrics, std::filesystem::path file, std::chrono::milliseconds period);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

 private:
  std::string write() const;  // empty, or why not
  void run();

  const Metrics& metrics_;
  std::filesystem::path file_;
  std::chrono::milliseconds period_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;
  std::thread writer_;
};

}  // namespace zoetrope
