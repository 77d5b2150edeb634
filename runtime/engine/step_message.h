// What the control channel carries for one step: the plan, and the prompts of the sequences that start with it.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "kernels/sample.h"
#include "monitoring/trace.h"
#include "parallel/ranks.h"
#include "runtime/prompt/prompt.h"
#include "scheduler/step_plan.h"

namespace zoetrope {

// A sequence as every rank needs it.
struct SequencePayload {
  Prompt prompt;
  SamplingSettings sampling;
};

struct StepMessage {
  StepPlan plan;
  std::vector<SequencePayload> payloads;  // one for each plan.starts
};

std::vector<std::byte> encoded(const StepMessage& message);
StepMessage decoded_message(std::span<const std::byte> bytes);  // Error(kCluster) on anything malformed

// What one rank answers after a step.
struct DrawnRow {
  RequestId id{};
  Sampled sampled;
};
struct FailedSequence {
  RequestId id{};
  std::string why;
};
// What a rank has counted since it started.
struct RankCounters {
  std::array<Traffic, kAxes> axes{};  // sent, in the order of books_of()
  std::array<TransferSeconds, kAxes> transfers{};
  double forward_seconds = 0;         // tokens to logits
  double pipe_wait_seconds = 0;       // of them, waiting for the rows of the stage before or for room in the next one
  std::uint64_t expert_rows = 0;      // pairs of a token and an expert that it computed
  std::uint64_t attention_pairs = 0;  // of a row that its member computes and a token that the row attends to
  bool operator==(const RankCounters&) const = default;
};
struct StepResult {
  std::vector<DrawnRow> drawn;
  std::vector<FailedSequence> failed;
  std::vector<PendingFrames> pending;
  // Wall times of this rank. Encoding begins when the frames are there; decoding is counted since the step before and
  // is hidden but for the time in which encoding waited for it.
  double encode_seconds = 0, film_decode_seconds = 0, film_wait_seconds = 0;
  double film_cpu_seconds = 0;  // of all decoders
  RankCounters counters;
  std::vector<TraceSpan> trace;  // of the time since the last result; empty when nothing is recorded
};

std::vector<std::byte> encoded(const StepResult& result);
StepResult decoded_result(std::span<const std::byte> bytes);

}  // namespace zoetrope
