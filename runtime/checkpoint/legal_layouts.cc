#include "runtime/checkpoint/legal_layouts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <numeric>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kPair = 2;  // bf16 weights are multiplied in pairs of inputs

std::int64_t unit_of(const ModelConfig& config) { return config.fp8 ? kFp8Block : kPair; }

SlicedMatrix sliced(std::string name, std::int64_t k, std::int64_t unit, int slices_max, bool cut_by_tp) {
  return {std::move(name), k, unit, canonical_slices(k, unit, slices_max), cut_by_tp};
}

// What stands in the way of `tp`: found and expected.
struct Obstacle {
  std::string found, expected;
};

std::optional<Obstacle> obstacle(const ModelConfig& config, int tp) {
  if (tp < 1 || !std::has_single_bit(static_cast<unsigned>(tp))) {
    return Obstacle{fmt::format("{}", tp), "a power of two"};
  }
  for (const SlicedMatrix& matrix : sliced_matrices(config)) {
    if (matrix.cut_by_tp && matrix.slices % tp != 0) {
      return Obstacle{fmt::format("{} (canonical slices) % {} (tp) = {} for the {}, K = {} in units of {}",
                                  matrix.slices, tp, matrix.slices % tp, matrix.name, matrix.k, matrix.unit),
                      fmt::format("a tp that divides {}", matrix.slices)};
    }
  }
  if (config.text.heads % tp != 0) {
    return Obstacle{fmt::format("{} (heads) % {} (tp) = {}", config.text.heads, tp, config.text.heads % tp),
                    "a tp that divides the attention heads"};
  }
  if (config.text.kv_heads % tp != 0 && tp % config.text.kv_heads != 0) {
    return Obstacle{fmt::format("{} key-value heads for {} ranks", config.text.kv_heads, tp),
                    "a tp that divides the key-value heads, or is a multiple of them"};
  }
  if (kHeadSlices % tp != 0) {
    return Obstacle{fmt::format("{} (vocabulary slices) % {} (tp) = {}", kHeadSlices, tp, kHeadSlices % tp),
                    fmt::format("a tp that divides {}", kHeadSlices)};
  }
  const std::int64_t vocabulary = config.text.vocabulary, each = (vocabulary + kHeadSlices - 1) / kHeadSlices;
  if (const std::int64_t first = each * (kHeadSlices - kHeadSlices / tp); first >= vocabulary) {
    return Obstacle{fmt::format("{} tokens of vocabulary in {} slices of {}: those of the last rank begin at {}",
                                vocabulary, kHeadSlices, each, first),
                    "tokens of the vocabulary for every rank"};
  }
  return std::nullopt;
}

}  // namespace

int canonical_slices(std::int64_t k, std::int64_t unit, int slices_max) {
  check(k > 0 && unit > 0 && slices_max > 0, "slices of a matrix that has inputs");
  if (k % unit != 0) {
    return 1;
  }
  int slices = 1;
  while (2 * slices <= slices_max && (k / unit) % (2 * slices) == 0) {
    slices *= 2;
  }
  return slices;
}

SlicedMatrix attention_output(const ModelConfig& config) {
  // A slice holds whole heads, and with FP8 weights whole blocks of scales.
  const std::int64_t head = config.text.head_dim;
  return sliced("attention output", config.text.query_width(), config.fp8 ? std::lcm(head, kFp8Block) : head,
                kSlicesMax, true);
}

SlicedMatrix dense_down(const ModelConfig& config) {
  check(!config.text.moe(), "a dense model has a dense down projection");
  return sliced("dense down", config.text.intermediate, unit_of(config), kSlicesMax, true);
}

SlicedMatrix expert_down(const ModelConfig& config) {
  check(config.text.moe(), "a MoE model has experts");
  return sliced("expert down", config.text.expert_intermediate, unit_of(config), kExpertSlicesMax, false);
}

std::vector<SlicedMatrix> sliced_matrices(const ModelConfig& config) {
  return {attention_output(config), config.text.moe() ? expert_down(config) : dense_down(config)};
}

std::optional<Complaint> tp_refusal(const ModelConfig& config, int tp) {
  const auto found = obstacle(config, tp);
  if (!found) {
    return std::nullopt;
  }
  return Complaint{fmt::format("tensor parallelism over {} ranks", tp), found->found, found->expected,
                   fmt::format("choose tp from {}", fmt::join(legal_tp(config), ", "))};
}

void check_tp(const ModelConfig& config, int tp) {
  if (const auto complaint = tp_refusal(config, tp)) {
    refuse(Radius::kStartup, *complaint);
  }
}

std::optional<Complaint> pp_refusal(const ModelConfig& config, int pp) {
  const int layers = config.text.layers;
  if (pp >= 1 && pp <= layers) {
    return std::nullopt;
  }
  return Complaint{fmt::format("a pipeline of {} stages", pp), fmt::format("{} layers for {} stages", layers, pp),
                   "at least one layer for each of at least one stage",
                   fmt::format("choose --pp 1 to --pp {}", layers)};
}

void check_pp(const ModelConfig& config, int pp) {
  if (const auto complaint = pp_refusal(config, pp)) {
    refuse(Radius::kStartup, *complaint);
  }
}

std::vector<int> legal_tp(const ModelConfig& config) {
  std::vector<int> sizes;
  for (int tp = 1; tp <= kTpMax; ++tp) {
    if (!obstacle(config, tp)) {
      sizes.push_back(tp);
    }
  }
  return sizes;
}

}  // namespace zoetrope
