// One golden case as it lies on disk: cases/CHECKPOINT/CASE/case.json and case.safetensors.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "kernels/rotary.h"
#include "tests/safetensors_file.h"

namespace zoetrope::test {

struct CaseGrid {
  int t = 0, h = 0, w = 0;  // patches
};

// Pictures, or films, of a case.
struct CaseVision {
  std::string tag;               // "image" or "video"
  std::vector<CaseGrid> grids;
  std::vector<float> pixels;     // [sum of t * h * w, 1536]: (x - 127.5) / 127.5
};

struct CaseNoise {
  double rms = 0, max_abs = 0;
};

struct GoldenCase {
  std::vector<std::int32_t> tokens;
  std::vector<Position> positions;
  std::int64_t rope_delta = 0;
  std::vector<CaseVision> vision;                  // pictures first
  std::vector<std::int32_t> greedy;                // greedy_fp32.ids
  std::vector<double> margins;                     // greedy_fp32.margins
  std::int64_t certain = 0;
  std::vector<double> bf16_errors;                 // bf16_on_fp32_continuation.max_abs_error
  std::map<std::string, CaseNoise> bf16_noise;     // the reference's own bf16 against its fp32
  std::int64_t bf16_flips = 0;                     // prompt tokens its bf16 sends to other experts, summed over layers
  SafetensorsFile tensors;
};

// Pixels that a case does not repeat are those of the same case of another checkpoint: all checkpoints share the pixel
// limits.
GoldenCase read_case(const std::filesystem::path& goldens, const std::string& checkpoint, const std::string& case_name);

}  // namespace zoetrope::test
