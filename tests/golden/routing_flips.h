// Where bf16 sends a token to other experts than fp32 does. A token whose router logits are nearly equal at the cut
// goes either way under bf16 rounding, in the reference too, and then its whole output is another one (reference 4.6).
// Such a token is proven, never assumed: the sets differ, and in fp32 the logits at the cut are as close as bf16 noise
// is large.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/checkpoint/config.h"

namespace zoetrope::test {

// What a model showed, by the golden files' names; rows of several calls follow each other.
using Trace = std::map<std::string, std::vector<float>>;

struct RoutingFlip {
  int layer = 0;
  double gap = 0;    // fp32: k-th largest router logit less the one behind it
  // rms of bf16 - fp32 router logits of this layer: over rows that were not sent elsewhere before, or over this row's
  // experts beside the two at the cut where that is more (a row that looks at rows which were sent elsewhere is noisier
  // than most)
  double noise = 0;
};

class RoutingFlips {
 public:
  // Traces of the same tokens; `prefix` is "" for the prompt, "continuation." for what followed.
  RoutingFlips(const TextConfig& config, const Trace& fp32, const Trace& bf16);

  // The first layer that sends row `row` elsewhere, if any.
  std::optional<RoutingFlip> first(const std::string& prefix, std::int64_t row) const;
  // Rows of the prompt with another set, summed over layers: what the reference counts for its own bf16.
  std::int64_t prompt_flips() const;

 private:
  std::vector<int> chosen(const Trace& trace, const std::string& prefix, int layer, std::int64_t row) const;
  double gap(const std::string& prefix, int layer, std::int64_t row) const;
  double noise(int layer) const;
  double noise_of_row(const std::string& prefix, int layer, std::int64_t row) const;
  std::int64_t rows(const std::string& prefix) const;

  const TextConfig& config_;
  const Trace& fp32_;
  const Trace& bf16_;
};

}  // namespace zoetrope::test
