#include "kernels/rotary.h"

#include <cmath>
#include <numbers>

#include "kernels/body_table.h"
#include "kernels/patch_order.h"
#include "kernels/row_pieces.h"

namespace zoetrope {
namespace {

// theta^(2i / dim), i = 0 .. dim/2 - 1: the exponent rounded to fp32, the power taken in double, then rounded to fp32.
std::vector<float> rotary_powers(double theta, int dim) {
  std::vector<float> powers(static_cast<std::size_t>(dim / 2));
  for (std::size_t i = 0; i < powers.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    powers[i] = static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
  }
  return powers;
}

// Frequencies at or below `low` are kept, those at or above `high` are divided by the factor, those between are mixed.
struct YarnRange {
  double low = 0.0;
  double high = 0.0;
};

YarnRange yarn_range(const RotarySettings& s) {
  // The frequency index whose wave makes `rotations` turns within the original length.
  const auto index_of = [&](double rotations) {
    return s.head_dim * std::log(static_cast<double>(s.original_positions) / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(s.theta));
  };
  YarnRange range{index_of(s.beta_fast), index_of(s.beta_slow)};
  if (s.truncate) {
    range = {std::floor(range.low), std::ceil(range.high)};
  }
  range = {std::max(range.low, 0.0), std::min(range.high, s.head_dim - 1.0)};
  if (range.low == range.high) {
    range.high += 0.001;
  }
  return range;
}

void apply_yarn(const RotarySettings& s, const std::vector<float>& powers, std::vector<float>& frequencies) {
  const YarnRange range = yarn_range(s);
  const auto low = static_cast<float>(range.low);
  const auto width = static_cast<float>(range.high - range.low);
  const auto factor = static_cast<float>(s.factor);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float ramp = std::min(std::max((static_cast<float>(i) - low) / width, 0.0f), 1.0f);
    const float kept = 1.0f - ramp;
    const float stretched = 1.0f / (factor * powers[i]);
    frequencies[i] = stretched * (1.0f - kept) + frequencies[i] * kept;
  }
}

void check_tables(std::int64_t rows, std::int64_t half, Rows<const float> cos, Rows<const float> sin) {
  check_eq(cos.rows, rows, "rows of rotary cosines");
  check_eq(sin.rows, rows, "rows of rotary sines");
  check_eq(cos.columns, half, "columns of rotary cosines");
  check_eq(sin.columns, half, "columns of rotary sines");
}

}  // namespace

std::vector<float> rotary_frequencies(const RotarySettings& settings) {
  check(settings.head_dim > 0 && settings.head_dim % 2 == 0, "a head of odd width cannot rotate");
  const std::vector<float> powers = rotary_powers(settings.theta, settings.head_dim);
  std::vector<float> frequencies(powers.size());
  for (std::size_t i = 0; i < powers.size(); ++i) {
    frequencies[i] = 1.0f / powers[i];
  }
  if (settings.yarn) {
    apply_yarn(settings, powers, frequencies);
  }
  return frequencies;
}

std::vector<std::uint8_t> rotary_axes(const RotarySettings& settings) {
  std::vector<std::uint8_t> axes(static_cast<std::size_t>(settings.head_dim / 2), 0);
  for (std::size_t axis = 1; axis < 3; ++axis) {  // h takes 1, 4, 7 ...; w takes 2, 5, 8 ...; t the rest
    const std::size_t end = 3 * static_cast<std::size_t>(settings.mrope_section[axis]);
    for (std::size_t i = axis; i < std::min(end, axes.size()); i += 3) {
      axes[i] = static_cast<std::uint8_t>(axis);
    }
  }
  return axes;
}

void rotary_table(const Compute& compute, std::span<const Position> positions, std::span<const float> inv_freq,
                  std::span<const std::uint8_t> axes, float attention_factor, Rows<float> cos, Rows<float> sin) {
  check_eq(axes.size(), inv_freq.size(), "axes of rotary frequencies");
  check_tables(static_cast<std::int64_t>(positions.size()), static_cast<std::int64_t>(inv_freq.size()), cos, sin);
  // Sines cost about fifty times an addition.
  over_rows(compute, cos.rows, 50 * cos.columns, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t t = first; t < last; ++t) {
      const Position& p = positions[static_cast<std::size_t>(t)];
      const float on_axis[3] = {static_cast<float>(p.t), static_cast<float>(p.h), static_cast<float>(p.w)};
      for (std::size_t i = 0; i < inv_freq.size(); ++i) {
        const float angle = on_axis[axes[i]] * inv_freq[i];  // one fp32 product
        const float c = static_cast<float>(std::cos(static_cast<double>(angle))) * attention_factor;
        const float s = static_cast<float>(std::sin(static_cast<double>(angle))) * attention_factor;
        cos.row(t)[i] = c;
        sin.row(t)[i] = s;
      }
    }
  });
}

void rotate(const Compute& compute, Rows<float> x, int head_dim, Rows<const float> cos, Rows<const float> sin) {
  check(head_dim > 0 && head_dim % 2 == 0 && x.columns % head_dim == 0, "heads that do not fill the row");
  check_tables(x.rows, head_dim / 2, cos, sin);
  const RotateArgs args{x, cos, sin, head_dim};
  const auto entry = compute.body->row.rotate;
  over_rows(compute, x.rows, x.columns, [&](std::int64_t first, std::int64_t last) { entry(args, first, last); });
}

void vision_rotary_table(int head_dim, int gh, int gw, Rows<float> cos, Rows<float> sin) {
  check(head_dim > 0 && head_dim % 4 == 0, "a vision head is rotated in quarters");
  check(gh > 0 && gw > 0 && gh % 2 == 0 && gw % 2 == 0, "a frame is cut in merge blocks of 2 x 2 patches");
  check_tables(static_cast<std::int64_t>(gh) * gw, head_dim / 2, cos, sin);
  constexpr double kVisionTheta = 10000.0;
  const std::vector<float> powers = rotary_powers(kVisionTheta, head_dim / 2);
  const std::size_t quarter = powers.size();
  // Row and column angles repeat all over the frame: one cosine and sine for each (coordinate, frequency).
  const auto coordinates = static_cast<std::size_t>(std::max(gh, gw));
  std::vector<float> cosines(coordinates * quarter);
  std::vector<float> sines(coordinates * quarter);
  for (std::size_t p = 0; p < coordinates; ++p) {
    for (std::size_t j = 0; j < quarter; ++j) {
      const float angle = static_cast<float>(p) * (1.0f / powers[j]);
      cosines[p * quarter + j] = static_cast<float>(std::cos(static_cast<double>(angle)));
      sines[p * quarter + j] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
  for (std::int64_t i = 0; i < cos.rows; ++i) {
    const PatchPlace place = merge_block_place(i, gw);
    const std::size_t at_row = static_cast<std::size_t>(place.row) * quarter;
    const std::size_t at_column = static_cast<std::size_t>(place.column) * quarter;
    for (std::size_t j = 0; j < quarter; ++j) {
      cos.row(i)[j] = cosines[at_row + j];
      sin.row(i)[j] = sines[at_row + j];
      cos.row(i)[quarter + j] = cosines[at_column + j];
      sin.row(i)[quarter + j] = sines[at_column + j];
    }
  }
}

}  // namespace zoetrope
