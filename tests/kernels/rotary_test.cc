#include "kernels/rotary.h"

#include <bit>
#include <boost/json.hpp>
#include <cmath>
#include <fstream>
#include <sstream>

#include "tests/golden_folder.h"
#include "tests/kernels/row_bodies.h"
#include "tests/safetensors_file.h"

namespace zoetrope {
namespace {

using test::normals;

int ulps(float a, float b) { return std::abs(std::bit_cast<std::int32_t>(a) - std::bit_cast<std::int32_t>(b)); }

double number(const boost::json::object& o, const char* key, double otherwise) {
  return o.contains(key) ? o.at(key).to_number<double>() : otherwise;
}

RotarySettings settings_of(const boost::json::object& row) {
  const auto& scaling = row.at("rope_scaling").as_object();
  RotarySettings s;
  s.head_dim = row.at("head_dim").to_number<int>();
  s.theta = row.at("rope_theta").to_number<double>();
  for (std::size_t axis = 0; axis < 3; ++axis) {
    s.mrope_section[axis] = scaling.at("mrope_section").as_array()[axis].to_number<int>();
  }
  s.yarn = scaling.at("rope_type").as_string() == "yarn";
  s.factor = number(scaling, "factor", 1.0);
  s.original_positions = static_cast<std::int64_t>(number(scaling, "original_max_position_embeddings", 0));
  s.beta_fast = number(scaling, "beta_fast", 32.0);
  s.beta_slow = number(scaling, "beta_slow", 1.0);
  s.truncate = !scaling.contains("truncate") || scaling.at("truncate").as_bool();
  s.attention_factor = row.at("attention_scaling").to_number<double>();
  return s;
}

struct Tables {
  boost::json::object json;
  test::SafetensorsFile arrays;
  std::vector<Position> positions;

  Tables() : arrays(test::golden_folder() / "rotary" / "tables.safetensors") {
    json = test::golden_json(test::golden_folder() / "rotary" / "tables.json").as_object();
    const auto p = arrays.data<std::int32_t>("positions");
    for (std::size_t i = 0; i < p.size(); i += 3) {
      positions.push_back({p[i], p[i + 1], p[i + 2]});
    }
  }
};

TEST(RotaryFrequencies, AreThoseOfTheLibrary) {
  const Tables tables;
  int entries = 0, different = 0;
  for (const auto& row : tables.json.at("rows").as_array()) {
    const std::string name(row.as_object().at("name").as_string());
    const auto found = rotary_frequencies(settings_of(row.as_object()));
    const auto expected = tables.arrays.data<float>(name + ".inv_freq");
    ASSERT_EQ(found.size(), expected.size()) << name;
    for (std::size_t i = 0; i < found.size(); ++i) {
      // The library's vectorised power is one ulp away from the correctly rounded one for i = 19 of 128 wide heads; a
      // sum of YaRN may carry such a difference on.
      EXPECT_LE(ulps(found[i], expected[i]), 1) << name << " " << i;
      different += found[i] != expected[i] ? 1 : 0;
      ++entries;
    }
  }
  EXPECT_EQ(entries, 64 * 3 + 16 * 2 + 32 * 3);
  EXPECT_LE(different, 3);  // i = 19 in the three tables of 128 wide heads
}

TEST(RotaryTable, IsThatOfTheLibrary) {
  const Tables tables;
  const auto rows = static_cast<std::int64_t>(tables.positions.size());
  for (const auto& value : tables.json.at("rows").as_array()) {
    const auto& row = value.as_object();
    const std::string name(row.at("name").as_string());
    const RotarySettings settings = settings_of(row);
    const auto axes = rotary_axes(settings);
    const auto inv_freq = tables.arrays.data<float>(name + ".inv_freq");  // the library's, to compare what follows
    const std::int64_t half = settings.head_dim / 2;
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      for (const bool sine : {false, true}) {
        const auto found = test::same_on_all_ways(precision, [&](const Compute& on) {
          std::vector<float> cos(static_cast<std::size_t>(rows * half)), sin(cos.size());
          rotary_table(on, tables.positions, inv_freq, axes, static_cast<float>(settings.attention_factor),
                       {cos.data(), rows, half}, {sin.data(), rows, half});
          return sine ? sin : cos;
        });
        const std::string key = name + (sine ? ".sin" : ".cos");
        const auto fp32 = tables.arrays.data<float>(key);  // [rows, head_dim], both halves equal
        const auto bf16 = tables.arrays.data<std::uint16_t>(key + "_bf16");
        for (std::int64_t t = 0; t < rows; ++t) {
          for (std::int64_t i = 0; i < half; ++i) {
            const float f = found[t * half + i];
            const std::size_t at = static_cast<std::size_t>(t * 2 * half + i);
            // The library's sines are within one ulp of the true ones, ours correctly rounded; the factor A of YaRN
            // rounds once more. Its bf16 table is this one rounded; ours stays fp32 in both modes.
            EXPECT_LE(ulps(f, fp32[at]), settings.attention_factor == 1.0 ? 1 : 2) << key << " " << t << " " << i;
            EXPECT_EQ(to_bf16(f), bf16[at]) << key << " " << t << " " << i;
          }
        }
      }
    }
  }
}

TEST(RotaryAxes, InterleavesTheSections) {
  RotarySettings s;  // 128 wide, [24, 20, 20]
  const auto axes = rotary_axes(s);
  int counts[3] = {};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const int expected = i >= 60 ? 0 : static_cast<int>(i % 3);
    EXPECT_EQ(axes[i], expected) << i;
    ++counts[axes[i]];
  }
  EXPECT_EQ(counts[0], 24);
  EXPECT_EQ(counts[1], 20);
  EXPECT_EQ(counts[2], 20);
}

TEST(VisionRotaryTable, HasTheLibrarysAnglesInMergeBlockOrder) {
  const Tables tables;
  for (const int head_dim : {24, 64, 72}) {
    const std::string name = "vision_hd" + std::to_string(head_dim);
    const auto angles = tables.arrays.data<float>(name + ".angles");  // [64, head_dim / 4]
    const int quarter = head_dim / 4, gh = 6, gw = 10;
    std::vector<float> cos(static_cast<std::size_t>(gh * gw * head_dim / 2)), sin(cos.size());
    vision_rotary_table(head_dim, gh, gw, {cos.data(), gh * gw, head_dim / 2}, {sin.data(), gh * gw, head_dim / 2});
    int i = 0;
    for (int r = 0; r < gh; r += 2) {
      for (int c = 0; c < gw; c += 2) {
        for (int inside = 0; inside < 4; ++inside, ++i) {
          for (int j = 0; j < head_dim / 2; ++j) {
            const int coordinate = j < quarter ? r + inside / 2 : c + inside % 2;
            const double angle = angles[static_cast<std::size_t>(coordinate * quarter + j % quarter)];
            ASSERT_EQ(cos[i * head_dim / 2 + j], static_cast<float>(std::cos(angle))) << name << " " << i << " " << j;
            ASSERT_EQ(sin[i * head_dim / 2 + j], static_cast<float>(std::sin(angle))) << name << " " << i << " " << j;
          }
        }
      }
    }
  }
}

struct Turn {
  std::int64_t rows, heads;
  int head_dim;
  std::vector<float> x, cos, sin;

  Turn(std::int64_t rows_, std::int64_t heads_, int head_dim_)
      : rows(rows_), heads(heads_), head_dim(head_dim_), x(normals(rows * heads * head_dim, 1)) {
    const auto angles = normals(rows * head_dim / 2, 2, 3.0f);
    for (const float angle : angles) {
      cos.push_back(round_bf16(std::cos(angle)));
      sin.push_back(round_bf16(std::sin(angle)));
    }
    test::round_all(x);
  }
};

std::vector<float> run(const Compute& on, const Turn& t) {
  std::vector<float> x = t.x;
  rotate(on, {x.data(), t.rows, t.heads * t.head_dim}, t.head_dim, {t.cos.data(), t.rows, t.head_dim / 2},
     {t.sin.data(), t.rows, t.head_dim / 2});
  return x;
}

TEST(Rotate, TurnsPairsInFp32InBothModes) {
  for (const int head_dim : {2, 24, 32, 72, 128}) {
    const Turn t(29, 3, head_dim);
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const auto turned = test::same_on_all_ways(precision, [&](const Compute& on) { return run(on, t); });
      const int half = head_dim / 2;
      for (std::int64_t row = 0; row < t.rows; ++row) {
        for (std::int64_t head = 0; head < t.heads; ++head) {
          for (int i = 0; i < half; ++i) {
            const std::size_t low = static_cast<std::size_t>((row * t.heads + head) * head_dim + i), high = low + half;
            const float c = t.cos[row * half + i], s = t.sin[row * half + i], a = t.x[low], b = t.x[high];
            ASSERT_EQ(turned[low], a * c + -b * s);
            ASSERT_EQ(turned[high], b * c + a * s);
          }
        }
      }
    }
  }
}

TEST(RotateDeathTest, RefusesTablesOfAnotherShape) {
  const Turn t(4, 2, 32);
  const test::OnWay on({best_body(), 1, Precision::kFp32, ""});
  std::vector<float> x = t.x;
  EXPECT_DEATH(rotate(on.compute, {x.data(), 4, 64}, 32, {t.cos.data(), 3, 16}, {t.sin.data(), 4, 16}), "cosines");
  EXPECT_DEATH(rotate(on.compute, {x.data(), 4, 63}, 32, {t.cos.data(), 4, 16}, {t.sin.data(), 4, 16}), "heads");
}

}  // namespace
}  // namespace zoetrope
