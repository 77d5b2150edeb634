// Which ranks hold which experts: dealt contiguously, read from a file (runtime/engine/expert_files.h) or balanced from
// counted load. Pure. Placement never changes a bit: an expert's output is a function of the token alone, and outputs
// meet at the token's home in ascending expert index (one-answer rule 3).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace zoetrope {

// Of one layer: expert -> the ranks that hold it. More than one: replicas of a hot expert.
struct ExpertTable {
  std::vector<std::vector<int>> ranks_of;  // [E], each ascending, distinct and not empty

  // Error(kStartup) unless ranks <= experts.
  static ExpertTable contiguous(int experts, int ranks);

  int experts() const { return static_cast<int>(ranks_of.size()); }
  std::vector<int> experts_of(int rank) const;  // ascending
  // The rank that answers tokens of `home`: home itself when it holds the expert, else its replicas in turn over homes.
  int serving(int expert, int home) const;

  bool operator==(const ExpertTable&) const = default;
};

// Of a model: one table for all layers, or one for each.
struct ExpertPlacement {
  std::vector<ExpertTable> tables;
  // Ranks that every expert is cut over. When more than one, the tables are of shards: entry e * shards + s is part s
  // of expert e.
  int shards = 1;

  std::size_t table_of(int layer) const { return tables.size() == 1 ? 0 : static_cast<std::size_t>(layer); }
  const ExpertTable& of(int layer) const { return tables.at(table_of(layer)); }
  // Experts of `rank` in each of `layers` layers.
  std::vector<std::vector<int>> experts_of(int rank, int layers) const;
};

// Experts dealt contiguously over `groups` groups of ranks / groups neighbours, each cut over the ranks of its group,
// at most `slices` (canonical slices of its down projection). Error(kStartup) with the division that leaves a rest.
ExpertPlacement grouped_experts_placement(int experts, int ranks, int groups, int slices);

// Tokens that came to each rank [ranks] of `load` tokens per expert [E], when every rank is home to as many of them.
std::vector<double> expected_load(const ExpertTable& table, std::span<const std::uint64_t> load, int ranks);

// Largest over mean; 1 is even, and what is said of nothing.
double max_over_mean(std::span<const double> load);

// A table for counted `load` [E] (tokens per expert). First the busiest experts are replicated, until every rank has
// room for `extra` experts more than an even share or all are on every rank; then copies are placed by longest
// processing time first: the busiest copy goes to the rank with the least load that has room. A rank holds at most
// ceil(E / ranks) + extra experts. Deterministic.
ExpertTable balanced_experts(std::span<const std::uint64_t> load, int ranks, int extra);

}  // namespace zoetrope
