#include "monitoring/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/log.h"

namespace zoetrope {
namespace {

// Label values and help: backslash, quote and line feed are written \\, \" and \n.
std::string escaped(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || (quotes && c == '"')) {
      out += '\\';
    }
    out += c == '\n' ? "\\n" : std::string(1, c);
  }
  return out;
}

const char* name_of(MetricKind kind) {
  switch (kind) {
    case MetricKind::kCounter:
      return "counter";
    case MetricKind::kGauge:
      return "gauge";
    case MetricKind::kHistogram:
      return "histogram";
  }
  return "untyped";
}

// One sample line; `more` is a label of the format's own ("le"), or empty.
std::string sample(const MetricInfo& info, std::string_view suffix, const std::string& label_value,
                   const std::string& more, double value) {
  std::string labels;
  if (!info.label.empty()) {
    labels = fmt::format("{}=\"{}\"", info.label, escaped(label_value, true));
  }
  if (!more.empty()) {
    labels += (labels.empty() ? "" : ",") + more;
  }
  return fmt::format("{}{}{} {}\n", info.name, suffix, labels.empty() ? "" : "{" + labels + "}", value);
}

}  // namespace

void Counter::add(double amount) {
  check(amount >= 0, "a counter only grows");
  value_.fetch_add(amount, std::memory_order_relaxed);
}

void Counter::set_total(double total) {
  check(total >= value(), "a counter only grows");
  value_.store(total, std::memory_order_relaxed);
}

void Histogram::observe(double value) {
  const auto at = std::ranges::lower_bound(buckets_, value) - buckets_.begin();
  counts_[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  sum_.add(value);
}

std::vector<std::uint64_t> Histogram::cumulative() const {
  std::vector<std::uint64_t> sums;
  std::uint64_t sum = 0;
  for (const auto& count : counts_) {
    sums.push_back(sum += count.load(std::memory_order_relaxed));
  }
  return sums;
}

Metrics::Series& Metrics::series(const MetricInfo& info, MetricKind kind, std::string_view label_value) {
  check(info.kind == kind, "a metric is used as what it is");
  check(info.label.empty() == label_value.empty(), "a metric with a label has a value for it");
  const std::lock_guard lock(mutex_);
  auto family = std::ranges::find_if(families_, [&](const Family& f) { return f.info.name == info.name; });
  if (family == families_.end()) {
    families_.push_back({info, {}});
    family = std::prev(families_.end());
  }
  for (Series& known : family->series) {
    if (known.label_value == label_value) {
      return known;
    }
  }
  Series& made = family->series.emplace_back();
  made.label_value = label_value;
  if (kind == MetricKind::kHistogram) {
    check(std::ranges::is_sorted(info.buckets), "buckets ascend");
    made.histogram = std::make_unique<Histogram>(info.buckets);
  }
  return made;
}

Counter& Metrics::counter(const MetricInfo& info, std::string_view label_value) {
  return series(info, MetricKind::kCounter, label_value).counter;
}
Gauge& Metrics::gauge(const MetricInfo& info, std::string_view label_value) {
  return series(info, MetricKind::kGauge, label_value).gauge;
}
Histogram& Metrics::histogram(const MetricInfo& info, std::string_view label_value) {
  return *series(info, MetricKind::kHistogram, label_value).histogram;
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const Family& family : families_) {
    const MetricInfo& info = family.info;
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", info.name, escaped(info.help, false), info.name,
                       name_of(info.kind));
    for (const Series& s : family.series) {
      if (info.kind != MetricKind::kHistogram) {
        const double value = info.kind == MetricKind::kCounter ? s.counter.value() : s.gauge.value();
        out += sample(info, "", s.label_value, "", value);
        continue;
      }
      const std::vector<std::uint64_t> sums = s.histogram->cumulative();
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const std::string bound = i < info.buckets.size() ? fmt::format("{}", info.buckets[i]) : "+Inf";
        out += sample(info, "_bucket", s.label_value, fmt::format("le=\"{}\"", bound), static_cast<double>(sums[i]));
      }
      out += sample(info, "_sum", s.label_value, "", s.histogram->sum());
      out += sample(info, "_count", s.label_value, "", static_cast<double>(sums.back()));
    }
  }
  return out;
}

MetricsFile::MetricsFile(const Metrics& metrics, std::filesystem::path file, std::chrono::milliseconds period)
    : metrics_(metrics), file_(std::move(file)), period_(period) {
  if (const std::string why = write(); !why.empty()) {
    refuse(Radius::kStartup, {fmt::format("metrics file {}", zoetrope::quoted(file_.string())), why,
                              "a file that can be written", "name another one (--metrics-file)"});
  }
  writer_ = std::thread([this] { run(); });
}

MetricsFile::~MetricsFile() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  ended_.notify_all();
  writer_.join();
  if (const std::string why = write(); !why.empty()) {
    log::warning("metrics_file_not_written", {{"file", file_.string()}, {"cause", why}});
  }
}

std::string MetricsFile::write() const {
  const std::string text = metrics_.text();
  const std::string beside = file_.string() + ".part";
  std::FILE* const out = std::fopen(beside.c_str(), "w");
  if (out == nullptr) {
    return std::strerror(errno);
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), out) == text.size();
  const bool whole = std::fclose(out) == 0 && written;
  if (!whole || std::rename(beside.c_str(), file_.c_str()) != 0) {
    const std::string why = std::strerror(errno);
    std::remove(beside.c_str());
    return why;
  }
  return {};
}

void MetricsFile::run() {
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, period_, [this] { return end_; })) {
    if (const std::string why = write(); !why.empty()) {
      log::warning("metrics_file_not_written", {{"file", file_.string()}, {"cause", why}});
    }
  }
}

}  // namespace zoetrope
