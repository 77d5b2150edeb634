// generation_config.json: how the checkpoint wants to be sampled when a request does not say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "runtime/checkpoint/config.h"

namespace zoetrope {

// Fields that are absent have the reference library's defaults; null switches a filter off.
struct GenerationConfig {
  bool sample = false;  // do_sample; false: greedy
  double temperature = 1;
  double top_p = 1;
  int top_k = 50;  // 0: off. 50 is the library's default when the field is absent
  double min_p = 0;
  double repetition_penalty = 1;
  std::vector<std::int32_t> eos;  // never empty
};

// Without the file: greedy, no penalties, eos of the configuration. Error(kStartup) for values out of range and for
// fields that would change answers in ways this program does not implement (beams, n-gram bans ...).
GenerationConfig read_generation_config(const std::filesystem::path& folder, const ModelConfig& config);
inline GenerationConfig read_generation_config(const std::filesystem::path& folder) {
  return read_generation_config(folder, read_model_config(folder));
}

}  // namespace zoetrope
