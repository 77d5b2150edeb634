// What the leader makes known of every step: the metrics of the catalogue and, when asked for, a trace.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "monitoring/metrics.h"
#include "monitoring/trace.h"
#include "parallel/ranks.h"
#include "runtime/engine/step_message.h"
#include "scheduler/planner.h"

namespace zoetrope {

struct ReportSettings {
  std::filesystem::path metrics_file;  // empty: none
  std::filesystem::path trace_file;    // empty: none
};

class StepReport {
 public:
  // lanes: what each rank is called in the trace.
  StepReport(const ReportSettings& settings, const Layout& layout, std::int32_t pages_per_member,
             const std::vector<std::string>& lanes);

  // A step that all ranks have executed in `seconds`; results in rank order.
  void step(const StepPlan& plan, const std::vector<StepResult>& results, double seconds);
  // After the step was committed.
  void committed(const std::vector<Finished>& finished, const Planner& planner);

  const Metrics& metrics() const { return metrics_; }

 private:
  void count_transfers(const std::vector<StepResult>& results);
  void count_bubble(const std::vector<StepResult>& results);

  Layout layout_;
  Metrics metrics_;
  std::unique_ptr<MetricsFile> metrics_file_;
  std::unique_ptr<TraceFile> trace_file_;
  std::vector<RankCounters> before_;  // of the step before, by rank
  double idle_seconds_ = 0, forward_seconds_ = 0;  // of all ranks, of the steps so far
};

}  // namespace zoetrope
