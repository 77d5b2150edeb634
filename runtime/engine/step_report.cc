#include "runtime/engine/step_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "monitoring/catalogue.h"
#include "monitoring/check.h"
#include "parallel/expert_placement.h"

namespace zoetrope {
namespace {

constexpr auto kMetricsPeriod = std::chrono::seconds(10);
constexpr std::array<const char*, 3> kOutcomes{"stop", "length", "aborted"};

// A stage's ranks answer for its layers alone, of which another stage may have more.
double imbalance(std::span<const double> rows, const Layout& layout) {
  const auto each = static_cast<std::size_t>(layout.stage_ranks());
  double largest = 1;
  for (std::size_t first = 0; first + each <= rows.size(); first += each) {
    largest = std::max(largest, max_over_mean(rows.subspan(first, each)));
  }
  return largest;
}

std::string text(std::size_t number) { return fmt::format("{}", number); }

}  // namespace

StepReport::StepReport(const ReportSettings& settings, const Layout& layout, std::int32_t pages_per_member,
                       const std::vector<std::string>& lanes)
    : layout_(layout) {
  for (const MetricInfo* info :
       {&catalogue::kSteps, &catalogue::kPrefillTokens, &catalogue::kCachedTokens,
        &catalogue::kDecodeTokens, &catalogue::kVisualUnits,
        &catalogue::kGrowths, &catalogue::kPagesMoved}) {
    metrics_.counter(*info);
  }
  for (const char* outcome : kOutcomes) {
    metrics_.counter(catalogue::kRequests, outcome);
  }
  for (int member = 0; member < layout.ring; ++member) {
    metrics_.gauge(catalogue::kPages, text(static_cast<std::size_t>(member))).set(pages_per_member);
    metrics_.gauge(catalogue::kPagesInUse, text(static_cast<std::size_t>(member)));
    metrics_.gauge(catalogue::kPagesKept, text(static_cast<std::size_t>(member)));
  }
  if (!settings.metrics_file.empty()) {
    metrics_file_ = std::make_unique<MetricsFile>(metrics_, settings.metrics_file, kMetricsPeriod);
  }
  if (!settings.trace_file.empty()) {
    trace_file_ = std::make_unique<TraceFile>(settings.trace_file, lanes);
  }
}

void StepReport::step(const StepPlan& plan, const std::vector<StepResult>& results, double seconds) {
  for (std::size_t rank = 0; trace_file_ && rank < results.size(); ++rank) {
    trace_file_->add(static_cast<int>(rank), results[rank].trace);
  }
  for (const SequenceStart& start : plan.starts) {
    metrics_.counter(catalogue::kCachedTokens).add(static_cast<double>(start.cached_tokens));
  }
  metrics_.counter(catalogue::kGrowths).add(static_cast<double>(plan.growths.size()));
  for (const Growth& growth : plan.growths) {
    metrics_.counter(catalogue::kPagesMoved).add(static_cast<double>(growth.pages.size()));
  }
  for (const StepResult& result : results) {
    metrics_.counter(catalogue::kFilmDecodeSeconds).add(result.film_decode_seconds);
    metrics_.counter(catalogue::kFilmWaitSeconds).add(result.film_wait_seconds);
  }
  if (plan.chunks.empty() && plan.encode.empty()) {
    return;
  }
  metrics_.counter(catalogue::kSteps).add(1);
  metrics_.counter(catalogue::kVisualUnits).add(static_cast<double>(plan.encode.size()));
  std::int64_t tokens = 0, drawn = 0;
  for (const Chunk& chunk : plan.chunks) {
    tokens += chunk.tokens;
    drawn += static_cast<std::int64_t>(chunk.drawn_tokens.size());
  }
  metrics_.counter(catalogue::kPrefillTokens).add(static_cast<double>(tokens - drawn));
  metrics_.counter(catalogue::kDecodeTokens).add(static_cast<double>(drawn));
  if (tokens > drawn) {
    metrics_.histogram(catalogue::kPrefillStepSeconds).observe(seconds);
  } else if (drawn > 0) {
    metrics_.histogram(catalogue::kDecodeStepSeconds).observe(seconds);
  }

  std::vector<double> expert_rows;
  double encode_seconds = 0;
  for (const StepResult& result : results) {
    encode_seconds = std::max(encode_seconds, result.encode_seconds);
    expert_rows.push_back(static_cast<double>(result.counters.expert_rows));
  }
  if (!plan.encode.empty()) {
    metrics_.histogram(catalogue::kEncodeSeconds).observe(encode_seconds);
  }
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    if (const Place place = place_of(layout_, static_cast<int>(rank)); place.stage == 0 && place.tp_index == 0) {
      metrics_.counter(catalogue::kAttentionPairs, text(static_cast<std::size_t>(place.member)))
          .set_total(static_cast<double>(results[rank].counters.attention_pairs));
    }
  }
  count_transfers(results);
  count_bubble(results);
  if (std::ranges::any_of(expert_rows, [](double rows) { return rows > 0; })) {
    for (std::size_t rank = 0; rank < expert_rows.size(); ++rank) {
      metrics_.counter(catalogue::kExpertRows, text(rank)).set_total(expert_rows[rank]);
    }
    metrics_.gauge(catalogue::kExpertImbalance).set(imbalance(expert_rows, layout_));
  }
}

// By axis, summed over ranks: what was sent and how long it was waited for.
void StepReport::count_transfers(const std::vector<StepResult>& results) {
  for (std::size_t axis = 0; axis < kAxes; ++axis) {
    Traffic sent;
    TransferSeconds seconds;
    for (const StepResult& result : results) {
      sent.bytes += result.counters.axes[axis].bytes;
      sent.messages += result.counters.axes[axis].messages;
      seconds.exposed += result.counters.transfers[axis].exposed;
      seconds.hidden += result.counters.transfers[axis].hidden;
    }
    metrics_.counter(catalogue::kCollectiveBytes, kAxisNames[axis]).set_total(static_cast<double>(sent.bytes));
    metrics_.counter(catalogue::kCollectiveMessages, kAxisNames[axis]).set_total(static_cast<double>(sent.messages));
    metrics_.counter(catalogue::kTransferExposed, kAxisNames[axis]).set_total(seconds.exposed);
    metrics_.counter(catalogue::kTransferHidden, kAxisNames[axis]).set_total(seconds.hidden);
  }
}

// The forward passes of a step begin together and are over with that of the last stage: until then every rank of every
// stage could have computed. What it did not is the bubble, waiting for rows and being done early alike.
void StepReport::count_bubble(const std::vector<StepResult>& results) {
  if (layout_.pp == 1) {
    return;
  }
  before_.resize(results.size());
  double longest = 0, busy = 0;
  std::vector<double> waited(static_cast<std::size_t>(layout_.pp), 0.0);
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    const RankCounters& now = results[rank].counters;
    const double forward = now.forward_seconds - before_[rank].forward_seconds;
    longest = std::max(longest, forward);
    busy += forward - (now.pipe_wait_seconds - before_[rank].pipe_wait_seconds);
    waited[static_cast<std::size_t>(place_of(layout_, static_cast<int>(rank)).stage)] += now.pipe_wait_seconds;
    before_[rank] = now;
  }
  const double all = longest * static_cast<double>(results.size());
  forward_seconds_ += all;
  idle_seconds_ += all - busy;
  for (std::size_t stage = 0; stage < waited.size(); ++stage) {
    metrics_.counter(catalogue::kPipelineWait, text(stage)).set_total(waited[stage]);
  }
  if (forward_seconds_ > 0) {
    metrics_.gauge(catalogue::kPipelineBubble).set(idle_seconds_ / forward_seconds_);
  }
}

void StepReport::committed(const std::vector<Finished>& finished, const Planner& planner) {
  for (const Finished& finish : finished) {
    metrics_.counter(catalogue::kRequests, kOutcomes.at(static_cast<std::size_t>(finish.reason))).add(1);
  }
  metrics_.gauge(catalogue::kWaiting).set(static_cast<double>(planner.waiting()));
  metrics_.gauge(catalogue::kRunning).set(static_cast<double>(planner.running()));
  const std::vector<std::int32_t> used = planner.pages_in_use(), kept = planner.pages_kept();
  for (std::size_t member = 0; member < used.size(); ++member) {
    metrics_.gauge(catalogue::kPagesInUse, text(member)).set(used[member]);
    metrics_.gauge(catalogue::kPagesKept, text(member)).set(kept[member]);
  }
}

}  // namespace zoetrope
