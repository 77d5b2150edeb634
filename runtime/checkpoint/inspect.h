// What `zoetrope inspect DIR` shows about a checkpoint: sizes, totals, digests, legal layouts, and all that is wrong.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/checkpoint/config.h"
#include "runtime/checkpoint/legal_layouts.h"

namespace zoetrope {

struct Inspection {
  struct Sum {
    std::uint64_t tensors = 0, parameters = 0, bytes = 0;
  };
  struct File {
    std::string name;
    std::uint64_t bytes = 0;
    std::size_t tensors = 0;  // 0 for files that are no shards
    std::string sha256;       // empty unless asked for (shards); always there for small files
  };

  std::filesystem::path folder;
  std::optional<ModelConfig> config;               // nothing when config.json is unusable
  Sum total;                                       // scales count in tensors and bytes, not in parameters
  std::vector<std::pair<std::string, Sum>> parts;  // embedding, attention, mlp, experts, router, norms, head, vision
  std::map<std::string, Sum> types;                // "BF16", "F8_E4M3", "F32"
  std::uint64_t kv_bytes_per_token = 0;            // bf16, all layers
  std::string head;                                // "lm_head.weight" or "the embedding (...)"
  std::string digest;                              // Checkpoint::digest; empty when there are problems
  std::vector<File> files;
  std::vector<SlicedMatrix> sliced;
  std::vector<int> tp;                                  // legal tensor-parallel sizes
  std::vector<std::pair<int, std::string>> tp_refused;  // powers of two up to 64 that are not, with the reason
  std::vector<std::string> problems;                    // all of them; a checkpoint with any cannot be loaded
  std::vector<std::string> notes;                       // odd but harmless

  bool ok() const { return problems.empty(); }
  int exit_status() const { return ok() ? 0 : 1; }
};

struct InspectOptions {
  bool digests = false;  // hash whole shard files: reads every byte
};

// Never throws for what is wrong inside the folder: that becomes a problem.
Inspection inspect_checkpoint(const std::filesystem::path& folder, const InspectOptions& options = {});

std::string inspection_text(const Inspection& inspection);  // for people, ends with a newline
std::string inspection_json(const Inspection& inspection);  // one JSON object, ends with a newline

}  // namespace zoetrope
