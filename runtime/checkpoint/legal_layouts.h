// Which tensor-parallel sizes and pipelines a model allows (docs/one-answer.md, rules 2 and 5): pure arithmetic on the
// configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "monitoring/error.h"
#include "runtime/checkpoint/config.h"

namespace zoetrope {

constexpr int kSlicesMax = 8;          // of a matrix whose inputs tensor parallelism cuts
constexpr int kExpertSlicesMax = 2;    // of an expert's down projection
constexpr int kHeadSlices = 16;  // of the head's rows
constexpr int kTpMax = 64;             // largest size that is tried

// S: the largest power of two <= slices_max that divides k / unit. 1 when `unit` does not divide k.
int canonical_slices(std::int64_t k, std::int64_t unit, int slices_max = kSlicesMax);

// A matrix whose k inputs are cut in canonical slices of whole units.
struct SlicedMatrix {
  std::string name;  // "attention output", "dense down", "expert down"
  std::int64_t k = 0;
  std::int64_t unit = 0;  // head_dim for the attention output, 128 for FP8 weights, 2 otherwise
  int slices = 1;         // canonical_slices
  bool cut_by_tp = true;  // false for experts: they are dealt whole, and cut only when an expert group is made smaller
};

SlicedMatrix attention_output(const ModelConfig& config);
SlicedMatrix dense_down(const ModelConfig& config);   // dense models only
SlicedMatrix expert_down(const ModelConfig& config);  // MoE models only
std::vector<SlicedMatrix> sliced_matrices(const ModelConfig& config);

// Why `tp` ranks cannot cut this model, with the matrix and the division that fails; nothing when they can.
std::optional<Complaint> tp_refusal(const ModelConfig& config, int tp);
// Error(kStartup) with tp_refusal.
void check_tp(const ModelConfig& config, int tp);
// Why the layers cannot be cut in `pp` stages; nothing when they can.
std::optional<Complaint> pp_refusal(const ModelConfig& config, int pp);
// Error(kStartup) with pp_refusal.
void check_pp(const ModelConfig& config, int pp);
// 1..kTpMax without a refusal.
std::vector<int> legal_tp(const ModelConfig& config);

}  // namespace zoetrope
