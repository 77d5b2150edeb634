// Where experts live, as a file says it, and what they were asked, as one run tells the next. Strict: every mistake is
// one line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "parallel/expert_placement.h"
#include "parallel/ranks.h"
#include "runtime/checkpoint/config.h"
#include "runtime/model/model.h"

namespace zoetrope {

// What the user wants of the experts' placement.
struct ExpertSettings {
  std::filesystem::path placement;  // a file; "auto": balanced from `load`; empty: dealt contiguously
  std::filesystem::path load;       // counted by a former run, for "auto"
  int groups = 0;                   // expert groups, each cutting its experts over its ranks; 0: as many as ranks
  int extra = 1;                    // "auto": experts a rank may hold beyond an even share
  std::filesystem::path load_out;   // where the counted load is written at the end; empty: nowhere
};

// {"all_layers": {"0": 2, "1": [0, 3], ...}} or {"layers": {"0": {"0": 2, ...}, "1": ...}}: every expert of every
// layer, with its rank or its list of ranks. Error(kStartup): unknown expert or layer, a missing one, a rank out of
// range or named twice.
ExpertPlacement parse_expert_placement(std::string_view text, const std::string& name, int experts, int layers,
                                       int ranks);

// {"experts": 128, "layers": [[tokens that chose expert 0, ...], ...]}.
std::string expert_load_text(const ExpertCounts& load);
ExpertCounts parse_expert_load(std::string_view text, const std::string& name, int experts, int layers);

// The placement that `settings` asks for, over the ranks of a stage; no tables where nothing is asked. Files are read
// by the leader and shared. Collective over the world.
ExpertPlacement placed_experts(const ExpertSettings& settings, const ModelConfig& model, Ranks& ranks, int stage_ranks);

// Sums what all ranks counted; the leader writes the file. Collective over the world. Error(kCluster) when it cannot.
void write_expert_load(const std::filesystem::path& file, const ExpertCounts& own, Ranks& ranks);

}  // namespace zoetrope
