#include "parallel/expert_placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "parallel/layout.h"

namespace zoetrope {
namespace {

std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

// How many copies of each expert: one, and then one more for whichever has the most tokens per copy.
std::vector<int> copies_of(std::span<const std::uint64_t> load, int ranks, std::int64_t more) {
  std::vector<int> copies(load.size(), 1);
  for (; more > 0; --more) {
    std::size_t busiest = load.size();
    for (std::size_t e = 0; e < load.size(); ++e) {
      // load[e] / copies[e] > load[busiest] / copies[busiest], without a rounding
      if (copies[e] < ranks && load[e] > 0 &&
          (busiest == load.size() || load[e] * static_cast<std::uint64_t>(copies[busiest]) >
                                         load[busiest] * static_cast<std::uint64_t>(copies[e]))) {
        busiest = e;
      }
    }
    if (busiest == load.size()) {
      break;
    }
    copies[busiest] += 1;
  }
  return copies;
}

}  // namespace

ExpertTable ExpertTable::contiguous(int experts, int ranks) {
  if (ranks <= 0 || experts < ranks) {
    refuse(Radius::kStartup, {"experts over ranks", fmt::format("{} experts for {} ranks", experts, ranks),
                              "at least one expert for every rank", fmt::format("start at most {} ranks", experts)});
  }
  ExpertTable table;
  for (int rank = 0; rank < ranks; ++rank) {
    table.ranks_of.insert(table.ranks_of.end(), size_of(dealt(experts, rank, ranks).count()), {rank});
  }
  return table;
}

std::vector<int> ExpertTable::experts_of(int rank) const {
  std::vector<int> experts;
  for (std::size_t e = 0; e < ranks_of.size(); ++e) {
    if (std::ranges::find(ranks_of[e], rank) != ranks_of[e].end()) {
      experts.push_back(static_cast<int>(e));
    }
  }
  return experts;
}

int ExpertTable::serving(int expert, int home) const {
  const std::vector<int>& replicas = ranks_of.at(size_of(expert));
  const bool own = std::ranges::find(replicas, home) != replicas.end();
  return own ? home : replicas[size_of(home) % replicas.size()];
}

std::vector<std::vector<int>> ExpertPlacement::experts_of(int rank, int layers) const {
  std::vector<std::vector<int>> experts;
  for (int layer = 0; layer < layers; ++layer) {
    experts.push_back(of(layer).experts_of(rank));
  }
  return experts;
}

ExpertPlacement grouped_experts_placement(int experts, int ranks, int groups, int slices) {
  const auto refused = [&](std::string found, std::string expected) {
    refuse(Radius::kStartup, {fmt::format("--ep {} of {} ranks", groups, ranks), std::move(found), std::move(expected),
                              "choose another --ep, or leave it out (as many as ranks)"});
  };
  if (groups < 1 || groups > ranks || ranks % groups != 0) {
    refused(groups < 1 || groups > ranks ? fmt::format("{} groups", groups)
                                         : fmt::format("{} / {} leaves {}", ranks, groups, ranks % groups),
            "a number of groups that divides the ranks");
  }
  const int shards = ranks / groups;
  if (slices % shards != 0) {
    refused(fmt::format("{} / {} = {} ranks to cut an expert over", ranks, groups, shards),
            fmt::format("a divisor of the {} canonical slices of an expert's down projection", slices));
  }
  const ExpertTable over_groups = ExpertTable::contiguous(experts, groups);
  ExpertPlacement placement{{ExpertTable{}}, shards};
  for (const std::vector<int>& group : over_groups.ranks_of) {
    for (int shard = 0; shard < shards; ++shard) {
      placement.tables[0].ranks_of.push_back({group.front() * shards + shard});
    }
  }
  return placement;
}

std::vector<double> expected_load(const ExpertTable& table, std::span<const std::uint64_t> load, int ranks) {
  check_eq(load.size(), table.ranks_of.size(), "a load for every expert");
  std::vector<double> by_rank(size_of(ranks), 0.0);
  for (std::size_t e = 0; e < load.size(); ++e) {
    for (int home = 0; home < ranks; ++home) {
      by_rank[size_of(table.serving(static_cast<int>(e), home))] += static_cast<double>(load[e]) / ranks;
    }
  }
  return by_rank;
}

double max_over_mean(std::span<const double> load) {
  const double sum = std::accumulate(load.begin(), load.end(), 0.0);
  return sum > 0 ? *std::ranges::max_element(load) * static_cast<double>(load.size()) / sum : 1.0;
}

ExpertTable balanced_experts(std::span<const std::uint64_t> load, int ranks, int extra) {
  check(ranks > 0 && extra >= 0, "experts are placed on ranks");
  const auto experts = static_cast<std::int64_t>(load.size());
  const std::size_t room = size_of((experts + ranks - 1) / ranks + extra);
  const std::vector<int> copies = copies_of(load, ranks, std::int64_t{extra} * ranks);

  std::vector<std::size_t> order(load.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto each = [&](std::size_t e) { return static_cast<double>(load[e]) / copies[e]; };
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return each(a) > each(b); });

  ExpertTable table;
  table.ranks_of.resize(load.size());
  std::vector<double> carried(size_of(ranks), 0.0);
  std::vector<std::size_t> held(size_of(ranks), 0);
  for (const std::size_t e : order) {
    std::vector<int>& holders = table.ranks_of[e];
    for (int copy = 0; copy < copies[e]; ++copy) {
      int best = -1;
      for (int rank = 0; rank < ranks; ++rank) {
        const auto r = size_of(rank);
        const bool better = best < 0 || carried[r] < carried[size_of(best)] ||
                            (carried[r] == carried[size_of(best)] && held[r] < held[size_of(best)]);
        if (held[r] < room && std::ranges::find(holders, rank) == holders.end() && better) {
          best = rank;
        }
      }
      if (best < 0) {
        break;  // the ranks with room have a copy already; the first copy always finds one
      }
      holders.push_back(best);
      carried[size_of(best)] += each(e);
      held[size_of(best)] += 1;
    }
    std::ranges::sort(holders);
  }
  return table;
}

}  // namespace zoetrope
