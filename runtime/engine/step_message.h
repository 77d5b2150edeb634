// What the control channel carries for one step: the plan, and the prompts of the sequences that start with it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/sample.h"
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
struct StepResult {
  std::vector<DrawnRow> drawn;
  std::vector<FailedSequence> failed;
  double encode_seconds = 0;  // wall time of this rank's encode phase
};

std::vector<std::byte> encoded(const StepResult& result);
StepResult decoded_result(std::span<const std::byte> bytes);

}  // namespace zoetrope
