#include "runtime/checkpoint/config_fields.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

class ConfigFields : public ::testing::Test {
 protected:
  const json::Source source_{"config.json", Radius::kStartup};
  const json::Value value_ =
      json::parse(R"({"act": "silu", "bias": false, "patch": 16, "eos": 5, "many": [5, 7], "none": null,
                                             "bad": [1, "x"], "negative": -1})",
                  source_);
  const json::Fields fields_{value_, source_, "text"};
};

TEST_F(ConfigFields, OneValueOnly) {
  require_text(fields_, "act", "silu");
  require_text(fields_, "absent", "silu");
  require_flag(fields_, "bias", false);
  require_flag(fields_, "absent", true);
  require_number(fields_, "patch", 16);
  expect_parts(message_of([&] { require_text(fields_, "act", "gelu"); }),
               {"config.json: text.act", "'silu'", "'gelu'"});
  expect_parts(message_of([&] { require_flag(fields_, "bias", true); }), {"text.bias", "found false", "expected true"});
  expect_parts(message_of([&] { require_number(fields_, "patch", 14); }), {"text.patch", "found 16", "expected 14"});
  expect_parts(message_of([&] { require_number(fields_, "absent", 14); }), {"text.absent", "missing"});
}

TEST_F(ConfigFields, Divides) {
  require_divides(fields_, "patch", 16, 4, "quarter");
  expect_parts(message_of([&] { require_divides(fields_, "patch", 16, 5, "number of things"); }),
               {"text.patch", "16 % 5 = 1", "a multiple of 5, the number of things"});
}

TEST_F(ConfigFields, TokenIds) {
  EXPECT_EQ(token_ids(fields_, "eos", 8), (std::vector<std::int32_t>{5}));
  EXPECT_EQ(token_ids(fields_, "many", 8), (std::vector<std::int32_t>{5, 7}));
  EXPECT_TRUE(token_ids(fields_, "none", 8).empty());
  EXPECT_TRUE(token_ids(fields_, "absent", 8).empty());
  expect_parts(message_of([&] { token_ids(fields_, "many", 7); }), {"text.many", "the number 7", "from 0 to 6"});
  expect_parts(message_of([&] { token_ids(fields_, "bad", 8); }), {"text.bad", "the text 'x'"});
  expect_parts(message_of([&] { token_ids(fields_, "negative", 8); }), {"text.negative", "the number -1"});
}

}  // namespace
}  // namespace zoetrope::test
