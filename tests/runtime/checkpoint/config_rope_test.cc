#include "runtime/checkpoint/config_rope.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

constexpr std::int64_t kPositions = 1000000;

RopeConfig read(const std::string& text, int head_dim = 128) {
  const json::Source source{"config.json", Radius::kStartup};
  const json::Value value = json::parse(text, source);
  return read_rope_config(json::Fields(value, source, "text_config"), head_dim, kPositions);
}

std::string refusal(const std::string& text, int head_dim = 128) {
  return message_of([&] { read(text, head_dim); });
}

// text_config with rope_theta and this rope_scaling.
std::string old_layout(const std::string& scaling) {
  return R"({"rope_theta": 5000000, "rope_scaling": )" + scaling + "}";
}

const std::string kSection = R"("mrope_section": [24, 20, 20], "mrope_interleaved": true)";

TEST(ConfigRope, BothLayoutsSayTheSame) {
  const RopeConfig a = read(old_layout(R"({"rope_type": "default", )" + kSection + "}"));
  const RopeConfig b =
      read(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 5000000, )" + kSection + "}}");
  for (const RopeConfig& rope : {a, b}) {
    EXPECT_EQ(rope.theta, 5e6);
    EXPECT_EQ(rope.mrope_section, (std::array<int, 3>{24, 20, 20}));
    EXPECT_FALSE(rope.yarn);
    EXPECT_EQ(rope.attention_factor, 1.0);
  }
}

TEST(ConfigRope, BothLayoutsMayStandThereWhenTheyAgree) {
  const std::string same = R"({"rope_type": "default", )" + kSection + "}";
  EXPECT_EQ(read(R"({"rope_theta": 5e6, "rope_scaling": )" + same +
                 R"(, "rope_parameters": {"rope_theta": 5e6, "rope_type": "default", )" + kSection + "}}")
                .theta,
            5e6);
  expect_parts(refusal(R"({"rope_theta": 1e6, "rope_scaling": )" + same +
                       R"(, "rope_parameters": {"rope_theta": 5e6, "rope_type": "default", )" + kSection + "}}"),
               {"text_config.rope_theta", "found 1000000", "expected 5000000, as rope_parameters says"});
  expect_parts(
      refusal(R"({"rope_scaling": )" + same +
              R"(, "rope_parameters": {"rope_theta": 5e6, "rope_type": "yarn", "factor": 2, )" + kSection + "}}"),
      {"text_config.rope_scaling", "what rope_parameters says", "yarn", "remove one of the two"});
}

// Values of the specification, 4.7.
TEST(ConfigRope, ResolvesTheAttentionFactorOfYarn) {
  const RopeConfig three = read(old_layout(
      R"({"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 262144, )" + kSection + "}"));
  EXPECT_TRUE(three.yarn);
  EXPECT_EQ(three.factor, 3.0);  // 1000000 / 262144 is 3.81: not recomputed
  EXPECT_EQ(three.original_positions, 262144);
  EXPECT_EQ(three.attention_factor, 1.1098612288668110);
  EXPECT_EQ(three.beta_fast, 32);
  EXPECT_EQ(three.beta_slow, 1);
  EXPECT_TRUE(three.truncate);
  EXPECT_EQ(read(old_layout(R"({"type": "yarn", "factor": 2, )" + kSection + "}")).attention_factor,
            1.0693147180559945);
  EXPECT_EQ(read(old_layout(R"({"rope_type": "yarn", "factor": 1, )" + kSection + "}")).attention_factor, 1.0);
  EXPECT_EQ(read(old_layout(R"({"rope_type": "yarn", "factor": 2, )" + kSection + "}")).original_positions, kPositions);
}

TEST(ConfigRope, TakesTheOptionalKeysOfYarn) {
  const RopeConfig given =
      read(old_layout(R"({"rope_type": "yarn", "factor": 3, "attention_factor": 1.5, "mscale": 1, "mscale_all_dim": 2,
      "beta_fast": 16, "beta_slow": 2, "truncate": false, )" +
                      kSection + "}"));
  EXPECT_EQ(given.attention_factor, 1.5);
  EXPECT_EQ(given.beta_fast, 16);
  EXPECT_EQ(given.beta_slow, 2);
  EXPECT_FALSE(given.truncate);
  // (0.1 * 0.7 * ln 3 + 1) / (0.1 * 0.4 * ln 3 + 1)
  EXPECT_DOUBLE_EQ(
      read(old_layout(R"({"rope_type": "yarn", "factor": 3, "mscale": 0.7, "mscale_all_dim": 0.4, )" + kSection + "}"))
          .attention_factor,
      1.0769028602067677 / 1.0439444915467244);
  EXPECT_EQ(read(old_layout(R"({"rope_type": "yarn", "factor": 3, "mscale": 0.7, )" + kSection + "}")).attention_factor,
            1.1098612288668110);
}

TEST(ConfigRope, RefusesWhatIsNotImplementedOrContradicts) {
  expect_parts(refusal("{}"), {"text_config.rope_scaling", "no rope_parameters"});
  expect_parts(refusal(old_layout(R"({"rope_type": "longrope", )" + kSection + "}")),
               {"rope_scaling.rope_type", "'longrope'", "'default' or 'yarn'"});
  expect_parts(refusal(old_layout("{" + kSection + "}")), {"rope_scaling.rope_type", "missing"});
  expect_parts(refusal(old_layout(R"({"rope_type": "yarn", "type": "default", "factor": 2, )" + kSection + "}")),
               {"rope_scaling.type", "'default'", "'yarn'"});
  expect_parts(refusal(old_layout(R"({"rope_type": "yarn", )" + kSection + "}")), {"rope_scaling.factor", "missing"});
  expect_parts(refusal(old_layout(R"({"rope_type": "yarn", "factor": 0.5, )" + kSection + "}")),
               {"rope_scaling.factor", "0.5", "at least 1"});
  expect_parts(refusal(old_layout(R"({"rope_type": "yarn", "factor": 2, "beta_fast": 0.5, )" + kSection + "}")),
               {"rope_scaling.beta_fast", "0.5", "at least beta_slow, 1"});
  expect_parts(refusal(old_layout(R"({"rope_type": "default", "factor": 3, )" + kSection + "}")),
               {"rope_scaling.factor", "the number 3", "rope_type 'yarn'"});
  expect_parts(
      refusal(old_layout(R"({"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": false})")),
      {"mrope_interleaved", "found false"});
  expect_parts(refusal(old_layout(R"({"rope_type": "default", "partial_rotary_factor": 0.5, )" + kSection + "}")),
               {"partial_rotary_factor", "0.5"});
  expect_parts(refusal(R"({"rope_theta": -1, "rope_scaling": {"rope_type": "default", )" + kSection + "}}"),
               {"rope_theta", "-1"});
}

TEST(ConfigRope, RefusesSectionsThatDoNotFitTheHead) {
  const auto with = [](const std::string& section) {
    return old_layout(R"({"rope_type": "default", "mrope_section": )" + section + "}");
  };
  EXPECT_EQ(read(with("[6, 5, 5]"), 32).mrope_section, (std::array<int, 3>{6, 5, 5}));
  expect_parts(refusal(with("[24, 20, 20]"), 32), {"mrope_section", "[24,20,20]", "three counts whose sum is 16"});
  expect_parts(refusal(with("[6, 5, 6]"), 32), {"mrope_section", "[6,5,6]", "sum is 16"});
  expect_parts(refusal(with("[4, 6, 6]"), 32), {"mrope_section", "[4,6,6]", "interleaved by 3"});
  expect_parts(refusal(with("[6, 10]"), 32), {"mrope_section", "[6,10]"});
  expect_parts(refusal(with("[]"), 32), {"mrope_section", "[]"});
  expect_parts(refusal(with("[-1, 8, 9]"), 32), {"mrope_section", "[-1,8,9]"});
  expect_parts(refusal(with("[6.0, 5, 5]"), 32), {"mrope_section", "three counts"});
}

}  // namespace
}  // namespace zoetrope::test
