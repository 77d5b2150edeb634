#include "runtime/checkpoint/config_rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/checkpoint/config_fields.h"

namespace zoetrope {
namespace {

using json::Fields;

double number_in(const Fields& fields, std::string_view key, double value, double above, double at_most) {
  if (!(value > above && value <= at_most)) {
    fields.refuse(key, fmt::format("{}", value), fmt::format("a number above {}, at most {}", above, at_most),
                  "correct the configuration");
  }
  return value;
}

// How much longer contexts sharpen attention (YaRN, 0.1 ln s + 1).
double magnitude(double scale, double weight) { return scale <= 1 ? 1 : 0.1 * weight * std::log(scale) + 1; }

double attention_factor_of(const Fields& fields, double factor) {
  constexpr double kAtMost = 100;
  if (fields.has("attention_factor")) {
    return number_in(fields, "attention_factor", fields.number("attention_factor"), 0, kAtMost);
  }
  const double all = fields.number_or("mscale_all_dim", 0);
  const double some = fields.number_or("mscale", 0);
  const double resolved =
      all != 0 && some != 0 ? magnitude(factor, some) / magnitude(factor, all) : magnitude(factor, 1);
  return number_in(fields, "mscale", resolved, 0, kAtMost);
}

std::array<int, 3> section_of(const Fields& fields, int head_dim) {
  constexpr std::string_view kKey = "mrope_section";
  const json::Array& values = fields.array(kKey);
  const int half = head_dim / 2;
  const std::string expected = fmt::format("three counts whose sum is {} (half of head_dim {})", half, head_dim);
  std::array<int, 3> section{};
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values.size() != 3 || !values[i].is_int64() || values[i].get_int64() < 0 || values[i].get_int64() > half) {
      fields.refuse(kKey, boost::json::serialize(values), expected, "correct the configuration");
    }
    section[i] = static_cast<int>(values[i].get_int64());
    sum += section[i];
  }
  if (values.size() != 3 || sum != half) {
    fields.refuse(kKey, boost::json::serialize(values), expected, "correct the configuration");
  }
  // h takes frequencies 1, 4, ... < 3 sh and w takes 2, 5, ... < 3 sw: the last of each must exist.
  if ((section[1] > 0 && 3 * section[1] - 2 >= half) || (section[2] > 0 && 3 * section[2] - 1 >= half)) {
    fields.refuse(kKey, boost::json::serialize(values),
                  fmt::format("h and w parts that fit when interleaved by 3 in {} frequencies", half),
                  "correct the configuration");
  }
  return section;
}

void read_yarn(const Fields& fields, std::int64_t positions_max, RopeConfig& rope) {
  constexpr std::int64_t kPositionsMax = std::int64_t{1} << 40;
  rope.factor = number_in(fields, "factor", fields.number("factor"), 0, 1e6);
  if (rope.factor < 1) {
    fields.refuse("factor", fmt::format("{}", rope.factor), "at least 1", "correct the configuration");
  }
  rope.original_positions = fields.integer_or("original_max_position_embeddings", positions_max, 1, kPositionsMax);
  rope.beta_fast = number_in(fields, "beta_fast", fields.number_or("beta_fast", 32), 0, 1e6);
  rope.beta_slow = number_in(fields, "beta_slow", fields.number_or("beta_slow", 1), 0, 1e6);
  if (rope.beta_fast < rope.beta_slow) {
    fields.refuse("beta_fast", fmt::format("{}", rope.beta_fast), fmt::format("at least beta_slow, {}", rope.beta_slow),
                  "correct the configuration");
  }
  rope.truncate = fields.boolean_or("truncate", true);
  rope.attention_factor = attention_factor_of(fields, rope.factor);
}

// rope_scaling or rope_parameters, all but theta.
RopeConfig read_scaling(const Fields& fields, int head_dim, std::int64_t positions_max) {
  RopeConfig rope;
  const std::string type = fields.text_or("rope_type", fields.text_or("type", ""));
  if (fields.has("rope_type") && fields.has("type") && fields.text("type") != type) {
    fields.refuse("type", zoetrope::quoted(fields.text("type")),
                  fmt::format("{}, as rope_type says", zoetrope::quoted(type)), "remove one of the two");
  }
  if (type != "default" && type != "yarn") {
    fields.refuse("rope_type", type.empty() ? "nothing (the field is missing)" : zoetrope::quoted(type),
                  "'default' or 'yarn'", "other rotary embeddings are not implemented");
  }
  require_flag(fields, "mrope_interleaved", true);
  if (fields.number_or("partial_rotary_factor", 1) != 1) {
    fields.refuse("partial_rotary_factor", json::described(*fields.find("partial_rotary_factor")), "1",
                  "other values are not implemented");
  }
  rope.mrope_section = section_of(fields, head_dim);
  rope.yarn = type == "yarn";
  if (rope.yarn) {
    read_yarn(fields, positions_max, rope);
  } else if (fields.number_or("factor", 1) != 1) {
    fields.refuse("factor", json::described(*fields.find("factor")), "no factor beside rope_type 'default'",
                  "say rope_type 'yarn', or remove the factor");
  }
  return rope;
}

double theta_of(const Fields& fields) { return number_in(fields, "rope_theta", fields.number("rope_theta"), 1, 1e15); }

bool same_scaling(const RopeConfig& a, const RopeConfig& b) {
  return a.mrope_section == b.mrope_section && a.yarn == b.yarn && a.factor == b.factor &&
         a.original_positions == b.original_positions && a.beta_fast == b.beta_fast && a.beta_slow == b.beta_slow &&
         a.truncate == b.truncate && a.attention_factor == b.attention_factor;
}

}  // namespace

RopeConfig read_rope_config(const Fields& text, int head_dim, std::int64_t positions_max) {
  const bool old_layout = text.has("rope_scaling");
  const bool new_layout = text.has("rope_parameters");
  if (!old_layout && !new_layout) {
    text.refuse("rope_scaling", "nothing (and no rope_parameters)", "rope_theta and rope_scaling, or rope_parameters",
                "fetch the published config.json");
  }
  const Fields fields = text.child(new_layout ? "rope_parameters" : "rope_scaling");
  RopeConfig rope = read_scaling(fields, head_dim, positions_max);
  if (old_layout && new_layout &&
      !same_scaling(rope, read_scaling(text.child("rope_scaling"), head_dim, positions_max))) {
    text.refuse("rope_scaling", boost::json::serialize(*text.find("rope_scaling")),
                fmt::format("what rope_parameters says: {}", boost::json::serialize(*text.find("rope_parameters"))),
                "remove one of the two");
  }
  const bool inside = fields.has("rope_theta");
  rope.theta = inside ? theta_of(fields) : theta_of(text);
  if (inside && text.has("rope_theta") && theta_of(text) != rope.theta) {
    text.refuse("rope_theta", fmt::format("{}", theta_of(text)),
                fmt::format("{}, as {} says", rope.theta, new_layout ? "rope_parameters" : "rope_scaling"),
                "remove one of the two");
  }
  return rope;
}

}  // namespace zoetrope
