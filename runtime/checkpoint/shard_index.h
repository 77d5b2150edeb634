// Which files hold the weights: model.safetensors.index.json, or one model.safetensors without an index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace zoetrope {

struct ShardIndex {
  bool present = false;                           // there is an index file
  std::vector<std::string> files;                 // plain names, sorted, each once
  std::map<std::string, std::string> weight_map;  // tensor -> file; empty without an index
  std::optional<std::uint64_t> total_size;        // metadata.total_size
};

// Error(kStartup) when there are no weights, when the index cannot be read, and when it and a model.safetensors that it
// does not name both claim to be the weights. Shards beside the index that it does not name become notes.
ShardIndex read_shard_index(const std::filesystem::path& folder, std::vector<std::string>& notes);

}  // namespace zoetrope
