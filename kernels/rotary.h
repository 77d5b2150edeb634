// Rotary position embedding: interleaved M-RoPE of the decoder (reference 4.3, 4.7) and 2-D RoPE of the vision tower
// (3.6).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/compute.h"

namespace zoetrope {

struct RotarySettings {
  int head_dim = 128;
  double theta = 5e6;
  std::array<int, 3> mrope_section{24, 20, 20};  // t, h, w
  bool yarn = false;
  double factor = 1.0;
  std::int64_t original_positions = 0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  double attention_factor = 1.0;  // A, resolved
};

// inv_freq [head_dim / 2] in fp32, with the three roundings of the reference; YaRN applied.
std::vector<float> rotary_frequencies(const RotarySettings& settings);
// The axis (0 t, 1 h, 2 w) whose position each frequency multiplies, [head_dim / 2].
std::vector<std::uint8_t> rotary_axes(const RotarySettings& settings);

// Position of a token on the three axes.
struct Position {
  std::int32_t t = 0, h = 0, w = 0;
};

// cos and sin of every row; built once per step, shared by all layers.
void rotary_table(const Compute& compute, std::span<const Position> positions /* [T] */,
                  std::span<const float> inv_freq, std::span<const std::uint8_t> axes, float attention_factor,
                  Rows<float> cos /* [T, D/2] */, Rows<float> sin);

// Vision: cos and sin [N, D/2] for patches in merge-block order of one frame of gh x gw patches.
void vision_rotary_table(int head_dim, int gh, int gw, Rows<float> cos, Rows<float> sin);

// Rotation in place of every head, text and vision (reference 3.6, 4.3).
void rotate(const Compute& compute, Rows<float> x /* [T, heads * D] */, int head_dim, Rows<const float> cos,
            Rows<const float> sin);

}  // namespace zoetrope
