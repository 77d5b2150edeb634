#include "runtime/checkpoint/shard_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "runtime/checkpoint/folder.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";

std::vector<std::string> names_in(const fs::path& folder, std::string_view ending) {
  std::vector<std::string> names;
  std::error_code ec;
  for (fs::directory_iterator entry(folder, ec), end; !ec && entry != end; entry.increment(ec)) {
    if (std::string name = entry->path().filename().string(); name.ends_with(ending)) {
      names.push_back(std::move(name));
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string missing_weights(const fs::path& folder) {
  if (const auto shards = names_in(folder, ".safetensors"); !shards.empty()) {
    return fmt::format("{} safetensors file{} ({}) but no index", shards.size(), shards.size() == 1 ? "" : "s",
                       zoetrope::quoted(shards.front()));
  }
  for (const std::string_view ending : {".bin", ".pt", ".pth", ".gguf"}) {
    if (const auto others = names_in(folder, ending); !others.empty()) {
      return fmt::format("{} (such files are never loaded)", zoetrope::quoted(others.front()));
    }
  }
  return "no safetensors file";
}

void read_weight_map(const json::Fields& top, const fs::path& folder, ShardIndex& index) {
  const json::Fields map = top.child("weight_map");
  std::set<std::string> files;
  for (const auto& member : map.object()) {
    const std::string tensor(member.key());
    if (!member.value().is_string()) {
      map.refuse(zoetrope::quoted(tensor, 200), json::described(member.value()), "the name of a file",
                 "fetch the index again");
    }
    const std::string file(member.value().get_string());
    if (!files.contains(file)) {
      file_in(folder, file);  // refuses names that lead out of the folder
      if (!file.ends_with(".safetensors")) {
        map.refuse(zoetrope::quoted(tensor, 200), zoetrope::quoted(file), "the name of a .safetensors file",
                   "fetch the index again");
      }
      files.insert(file);
    }
    index.weight_map.emplace(tensor, file);
  }
  index.files.assign(files.begin(), files.end());
  if (files.empty()) {
    top.refuse("weight_map", "an empty object", "the file of each tensor", "fetch the index again");
  }
}

std::string list_of(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i == 0 ? "" : ", ") + zoetrope::quoted(names[i], 200);
  }
  return names.size() > kShown ? fmt::format("{} and {} more", text, names.size() - kShown) : text;
}

}  // namespace

ShardIndex read_shard_index(const fs::path& folder, std::vector<std::string>& notes) {
  ShardIndex index;
  std::error_code ec;
  const fs::path file = file_in(folder, kIndexName);
  const bool single = fs::exists(file_in(folder, kSingleName), ec);
  if (!fs::exists(file, ec)) {
    if (!single) {
      refuse(Radius::kStartup, {folder.string(), missing_weights(folder),
                                fmt::format("{} or {}", kSingleName, kIndexName), "fetch the checkpoint again"});
    }
    index.files.emplace_back(kSingleName);
  } else {
    const std::string text = read_text_file(file);
    if (const std::string other = looks_like(text); !other.empty() && !text.starts_with('{')) {
      refuse(Radius::kStartup, {file.string(), other, "an index of shards as JSON", "fetch the file again"});
    }
    const json::Source source{file.string(), Radius::kStartup};
    const json::Value value = json::parse(text, source);
    const json::Fields top(value, source);
    index.present = true;
    read_weight_map(top, folder, index);
    if (top.has("metadata") && top.child("metadata").has("total_size")) {
      index.total_size = static_cast<std::uint64_t>(top.child("metadata").integer("total_size", 0, INT64_MAX));
    }
    if (single && std::find(index.files.begin(), index.files.end(), kSingleName) == index.files.end()) {
      refuse(Radius::kStartup, {folder.string(), fmt::format("{} and an index that names other files", kSingleName),
                                "one set of weights", "remove the one that is not meant"});
    }
  }
  std::vector<std::string> unused;
  for (const std::string& name : names_in(folder, ".safetensors")) {
    if (std::find(index.files.begin(), index.files.end(), name) == index.files.end()) {
      unused.push_back(name);
    }
  }
  if (!unused.empty()) {
    notes.push_back(fmt::format("not used, because the index does not name them: {}", list_of(unused)));
  }
  return index;
}

}  // namespace zoetrope
