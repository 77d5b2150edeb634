// A Hugging Face folder as published: settings and memory-mapped weights. Opened once, constant afterwards; opening
// reads the headers only, weights come in when they are touched, so each rank reads only its own slices. Nothing in the
// folder is executed. Safe to read from many threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/checkpoint/config.h"
#include "runtime/checkpoint/generation_config.h"
#include "runtime/checkpoint/problems.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tensor_names.h"

namespace zoetrope {

struct ShardIndex;

class Checkpoint {
 public:
  // Reads the configuration, the index and every header and compares each tensor (name, shape, type) with
  // expected_tensors(). Error(kStartup) with the first thing that is wrong, in one line: tensor, file, expected, found.
  static Checkpoint open(const std::filesystem::path& folder);
  // The same for inspection: what is wrong goes to `problems`, what is odd but harmless to `notes`, and what could be
  // read is there. Error(kStartup) only when there is no configuration to judge the rest by.
  static Checkpoint open_all(const std::filesystem::path& folder, Problems& problems, std::vector<std::string>& notes);
  Checkpoint(Checkpoint&&) noexcept = default;
  Checkpoint& operator=(Checkpoint&&) noexcept = default;

  const ModelConfig& config() const { return config_; }
  const GenerationConfig& generation() const { return generation_; }
  const std::filesystem::path& folder() const { return folder_; }

  const StoredTensor& tensor(std::string_view name) const;  // must exist: a missing one is a bug of the caller
  const StoredTensor* find(std::string_view name) const;    // nullptr when absent
  // The matrix that turns hidden rows into logits: lm_head.weight, or the embedding when text_config ties them or the
  // files hold no lm_head.weight.
  const StoredTensor& head() const;
  bool head_is_embedding() const;

  const std::vector<std::unique_ptr<ShardFile>>& shards() const { return shards_; }
  std::uint64_t bytes_total() const;  // of all tensors, scales included; the index calls it total_size
  std::uint64_t parameters() const;   // elements of all tensors but scales
  std::size_t tensor_count() const { return tensors_.size(); }

  // Identity of weights and configuration: SHA-256 over config.json and, in the order of names, each tensor's name,
  // type, shape and a sample of its bytes (all of a tensor up to 64 KiB, else 4 pieces of 4 KiB spread over it). How
  // the tensors are split over files does not count. Reads at most 64 KiB per tensor, about 20 MB for 235B: a change
  // that leaves every sampled byte as it was is not seen (`zoetrope inspect --digests` hashes whole files). Not cached.
  std::string digest() const;

 private:
  Checkpoint() = default;
  void open_shards(const ShardIndex& index, Problems& problems);

  std::filesystem::path folder_;
  std::string config_text_;
  ModelConfig config_;
  GenerationConfig generation_;
  std::vector<std::unique_ptr<ShardFile>> shards_;
  std::unordered_map<std::string_view, const StoredTensor*> tensors_;  // keys live in the shards
};

}  // namespace zoetrope
