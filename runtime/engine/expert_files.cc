#include "runtime/engine/expert_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "monitoring/error.h"
#include "monitoring/log.h"
#include "parallel/collectives.h"
#include "runtime/checkpoint/legal_layouts.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

constexpr std::size_t kFileBytesMax = std::size_t{64} << 20;

[[noreturn]] void refuse_file(const std::string& what, std::string found, std::string expected, std::string remedy) {
  refuse(Radius::kStartup, {what, std::move(found), std::move(expected), std::move(remedy)});
}

// The key as an index below `count`, written as JSON writers write numbers; -1 for anything else.
int index_of(std::string_view key, int count) {
  int index = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
  const bool canonical = error == std::errc() && end == key.data() + key.size() && fmt::format("{}", index) == key;
  return canonical && index >= 0 && index < count ? index : -1;
}

int rank_in(const json::Value& value, const std::string& where, int ranks) {
  const auto* const number = value.if_int64();
  if (number == nullptr || *number < 0 || *number >= ranks) {
    refuse_file(where, json::described(value), fmt::format("a rank from 0 to {}", ranks - 1),
                "name ranks of this layout, or start more of them");
  }
  return static_cast<int>(*number);
}

ExpertTable table_in(const json::Value& value, const std::string& where, int experts, int ranks) {
  const auto* const object = value.if_object();
  if (object == nullptr) {
    refuse_file(where, json::described(value), "an object: expert to rank", "see zoetrope ask --help");
  }
  ExpertTable table;
  table.ranks_of.resize(static_cast<std::size_t>(experts));
  for (const auto& [key, holders] : *object) {
    const int expert = index_of(key, experts);
    const std::string what = fmt::format("{}, expert {}", where, zoetrope::quoted(std::string(key)));
    if (expert < 0) {
      refuse_file(what, "an expert that this model does not have", fmt::format("0 to {}", experts - 1),
                  "take it out of the file");
    }
    std::vector<int>& ranks_of = table.ranks_of[static_cast<std::size_t>(expert)];
    if (const auto* const list = holders.if_array()) {
      for (const json::Value& rank : *list) {
        ranks_of.push_back(rank_in(rank, what, ranks));
      }
    } else {
      ranks_of.push_back(rank_in(holders, what, ranks));
    }
    std::ranges::sort(ranks_of);
    if (const auto twice = std::ranges::adjacent_find(ranks_of); twice != ranks_of.end()) {
      refuse_file(what, fmt::format("rank {} twice", *twice), "every rank once", "take one of them out");
    }
  }
  for (std::size_t e = 0; e < table.ranks_of.size(); ++e) {
    if (table.ranks_of[e].empty()) {
      refuse_file(fmt::format("{}, expert {}", where, e), "no rank", "at least one rank for every expert",
                  "add it to the file");
    }
  }
  return table;
}

// The leader's text of a file, at every rank.
std::string shared_text(const std::filesystem::path& file, const char* flag, Ranks& ranks) {
  std::string text;
  if (ranks.leader()) {
    std::error_code ec;
    const auto bytes = std::filesystem::file_size(file, ec);
    std::ifstream in(file, std::ios::binary);
    if (ec || !in || bytes > kFileBytesMax) {
      refuse_file(fmt::format("{} {}", flag, zoetrope::quoted(file.string())),
                  ec   ? ec.message()
                  : in ? fmt::format("{} bytes", bytes)
                       : std::strerror(errno),
                  fmt::format("a readable file of at most {} bytes", kFileBytesMax), "name another file");
    }
    std::ostringstream all;
    all << in.rdbuf();
    text = all.str();
  }
  const auto bytes = broadcast(*ranks.world, std::as_bytes(std::span(text)), 0, flag);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

ExpertPlacement parse_expert_placement(std::string_view text, const std::string& name, int experts, int layers,
                                       int ranks) {
  const json::Value value = json::parse(text, {name, Radius::kStartup});
  const json::Fields fields(value, {name, Radius::kStartup});
  for (const auto& [key, unused] : fields.object()) {
    if (key != "all_layers" && key != "layers") {
      refuse_file(name, fmt::format("the field {}", zoetrope::quoted(std::string(key))), "'all_layers' or 'layers'",
                  "take it out of the file");
    }
  }
  if (fields.has("all_layers") == fields.has("layers")) {
    refuse_file(name, fields.has("layers") ? "both 'all_layers' and 'layers'" : "neither 'all_layers' nor 'layers'",
                "one of them", "say where the experts of all layers live, or of each");
  }
  ExpertPlacement placement;
  if (fields.has("all_layers")) {
    placement.tables = {table_in(*fields.find("all_layers"), name + ": all layers", experts, ranks)};
    return placement;
  }
  const json::Fields by_layer = fields.child("layers");
  placement.tables.resize(static_cast<std::size_t>(layers));
  for (const auto& [key, table] : by_layer.object()) {
    const int layer = index_of(key, layers);
    if (layer < 0) {
      refuse_file(fmt::format("{}: layer {}", name, zoetrope::quoted(std::string(key))),
                  "a layer that this model does not have", fmt::format("0 to {}", layers - 1),
                  "take it out of the file");
    }
    placement.tables[static_cast<std::size_t>(layer)] =
        table_in(table, fmt::format("{}: layer {}", name, layer), experts, ranks);
  }
  for (std::size_t layer = 0; layer < placement.tables.size(); ++layer) {
    if (placement.tables[layer].ranks_of.empty()) {
      refuse_file(fmt::format("{}: layer {}", name, layer), "nothing", fmt::format("all of the {} layers", layers),
                  "add it to the file, or place all layers alike ('all_layers')");
    }
  }
  return placement;
}

std::string expert_load_text(const ExpertCounts& load) {
  const auto experts = static_cast<std::size_t>(load.experts);
  std::string text = fmt::format("{{\"experts\": {}, \"layers\": [", experts);
  for (std::size_t at = 0; at < load.chosen.size(); ++at) {
    const bool first = at % experts == 0;
    text += fmt::format("{}{}", first ? (at == 0 ? "\n[" : "],\n[") : ", ", load.chosen[at]);
  }
  return text + (load.chosen.empty() ? "]}\n" : "]\n]}\n");
}

ExpertCounts parse_expert_load(std::string_view text, const std::string& name, int experts, int layers) {
  const json::Source source{name, Radius::kStartup};
  const json::Value value = json::parse(text, source);
  const json::Fields fields(value, source);
  ExpertCounts load;
  load.experts = static_cast<int>(fields.integer("experts", 1, 1 << 16));
  const json::Array& rows = fields.array("layers");
  if (load.experts != experts || rows.size() != static_cast<std::size_t>(layers)) {
    refuse_file(name, fmt::format("{} layers of {} experts", rows.size(), load.experts),
                fmt::format("{} layers of {} experts, as this model has", layers, experts),
                "give the load that a run of this model has written (--expert-load-out)");
  }
  for (std::size_t layer = 0; layer < rows.size(); ++layer) {
    const auto* const row = rows[layer].if_array();
    if (row == nullptr || row->size() != static_cast<std::size_t>(experts)) {
      refuse_file(fmt::format("{}: layer {}", name, layer), json::described(rows[layer]),
                  fmt::format("a list of {} counts", experts), "give an unchanged file");
    }
    for (const json::Value& count : *row) {
      const auto* const number = count.if_int64();
      if (number == nullptr || *number < 0 || *number > std::int64_t{1} << 40) {
        refuse_file(fmt::format("{}: layer {}", name, layer), json::described(count), "a count from 0 to 2^40",
                    "give an unchanged file");
      }
      load.chosen.push_back(static_cast<std::uint64_t>(*number));
    }
  }
  return load;
}

ExpertPlacement placed_experts(const ExpertSettings& settings, const ModelConfig& model, Ranks& ranks,
                               int stage_ranks) {
  const TextConfig& config = model.text;
  if (!config.moe() && (!settings.placement.empty() || !settings.load_out.empty() || settings.groups > 0)) {
    refuse_file("--expert-placement, --expert-load-out and --ep", "a model without experts", "a mixture of experts",
                "leave them out");
  }
  if (!settings.load_out.empty() && ranks.leader() && !std::ofstream(settings.load_out, std::ios::app)) {
    refuse_file(fmt::format("--expert-load-out {}", zoetrope::quoted(settings.load_out.string())), std::strerror(errno),
                "a file that can be written", "name another one");
  }
  if (settings.groups > 0 && !settings.placement.empty()) {
    refuse_file("--ep", fmt::format("{} with --expert-placement", settings.groups), "one of them",
                "leave one out: a placement is of whole experts");
  }
  if (settings.groups > 0 && config.moe()) {
    return grouped_experts_placement(config.experts, stage_ranks, settings.groups, expert_down(model).slices);
  }
  if (settings.placement.empty()) {
    return {};
  }
  if (settings.placement != "auto") {
    return parse_expert_placement(shared_text(settings.placement, "--expert-placement", ranks),
                                  settings.placement.string(), config.experts, config.layers, stage_ranks);
  }
  ExpertCounts load = parse_expert_load(shared_text(settings.load, "--expert-load", ranks), settings.load.string(),
                                        config.experts, config.layers);
  ExpertPlacement placement;
  double before = 0, after = 0;
  for (int layer = 0; layer < config.layers; ++layer) {
    placement.tables.push_back(balanced_experts(load.of(layer), stage_ranks, settings.extra));
    after += max_over_mean(expected_load(placement.tables.back(), load.of(layer), stage_ranks)) / config.layers;
    if (config.experts >= stage_ranks) {
      const ExpertTable contiguous = ExpertTable::contiguous(config.experts, stage_ranks);
      before += max_over_mean(expected_load(contiguous, load.of(layer), stage_ranks)) / config.layers;
    }
  }
  log::info("experts_placed", {{"max_over_mean_contiguous", before}, {"max_over_mean", after}});
  return placement;
}

void write_expert_load(const std::filesystem::path& file, const ExpertCounts& own, Ranks& ranks) {
  ExpertCounts sum = own;
  const auto all = gather(*ranks.world, std::as_bytes(std::span(own.chosen)), 0, "counted load of experts");
  if (!ranks.leader()) {
    return;
  }
  std::ranges::fill(sum.chosen, 0);
  for (const auto& bytes : all) {
    std::vector<std::uint64_t> part(sum.chosen.size());
    check_eq(bytes.size(), part.size() * sizeof(std::uint64_t), "ranks count the same experts");
    std::memcpy(part.data(), bytes.data(), bytes.size());
    std::ranges::transform(sum.chosen, part, sum.chosen.begin(), std::plus<>());
  }
  std::ofstream out(file);
  out << expert_load_text(sum);
  out.close();
  if (!out) {
    refuse(Radius::kCluster,
           {fmt::format("--expert-load-out {}", zoetrope::quoted(file.string())), std::strerror(errno),
            "room for the counted load", "name another file; the answers are complete"});
  }
}

}  // namespace zoetrope
