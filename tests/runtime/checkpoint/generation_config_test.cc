#include "runtime/checkpoint/generation_config.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

class GenerationConfigTest : public ::testing::Test {
 protected:
  GenerationConfig read(const std::string& text) {
    write_text(folder_.path() / "generation_config.json", text);
    return read_generation_config(folder_.path(), config_);
  }
  std::string refusal(const std::string& text) {
    return message_of([&] { read(text); });
  }

  TemporaryFolder folder_;
  ModelConfig config_ = parsed(published_config("30B-A3B"));
};

TEST_F(GenerationConfigTest, ReadsThePublishedFile) {
  const GenerationConfig generation = read(read_text(published("generation_config.json")));
  EXPECT_TRUE(generation.sample);
  EXPECT_EQ(generation.temperature, 0.8);
  EXPECT_EQ(generation.top_p, 0.95);
  EXPECT_EQ(generation.top_k, 20);
  EXPECT_EQ(generation.min_p, 0);
  EXPECT_EQ(generation.repetition_penalty, 1);
  EXPECT_EQ(generation.eos, (std::vector<std::int32_t>{151645, 151643}));
}

TEST_F(GenerationConfigTest, ReadsTheGoldens) {
  const GenerationConfig generation = read_generation_config(golden_checkpoint("tiny-dense"));
  EXPECT_EQ(generation.temperature, 0.7);
  EXPECT_EQ(generation.eos, (std::vector<std::int32_t>{1502, 1500}));
}

TEST_F(GenerationConfigTest, WithoutTheFileItIsGreedy) {
  const GenerationConfig generation = read_generation_config(folder_.path(), config_);
  EXPECT_FALSE(generation.sample);
  EXPECT_EQ(generation.temperature, 1);
  EXPECT_EQ(generation.top_p, 1);
  EXPECT_EQ(generation.top_k, 50);
  EXPECT_EQ(generation.eos, (std::vector<std::int32_t>{151645}));
  config_.eos.clear();
  expect_parts(message_of([&] { read_generation_config(folder_.path(), config_); }),
               {"eos_token_id", "nothing", "generation_config.json"});
}

TEST_F(GenerationConfigTest, NullAndAbsentDiffer) {
  EXPECT_EQ(read("{}").top_k, 50);
  const GenerationConfig off =
      read(R"({"top_k": null, "top_p": null, "temperature": null, "min_p": null, "eos_token_id": 7})");
  EXPECT_EQ(off.top_k, 0);
  EXPECT_EQ(off.top_p, 1);
  EXPECT_EQ(off.temperature, 1);
  EXPECT_EQ(off.eos, (std::vector<std::int32_t>{7}));
  EXPECT_EQ(read(R"({"min_p": 0.1, "repetition_penalty": 1.1, "top_k": 0})").min_p, 0.1);
}

TEST_F(GenerationConfigTest, RefusesWhatItDoesNotImplement) {
  expect_parts(refusal(R"({"num_beams": 4})"), {"generation_config.json: num_beams", "the number 4", "expected 1"});
  expect_parts(refusal(R"({"no_repeat_ngram_size": 3})"), {"no_repeat_ngram_size", "the number 3", "expected 0"});
  expect_parts(refusal(R"({"suppress_tokens": [1, 2]})"), {"suppress_tokens", "a list of 2"});
  EXPECT_EQ(read(R"({"num_beams": 1, "suppress_tokens": null, "bad_words_ids": []})").temperature, 1);
}

TEST_F(GenerationConfigTest, RefusesValuesOutOfRange) {
  expect_parts(refusal(R"({"temperature": -0.1})"), {"temperature", "-0.1", "from 0 to 100"});
  expect_parts(refusal(R"({"top_p": 1.1})"), {"top_p", "1.1", "from 0 to 1"});
  expect_parts(refusal(R"({"top_k": -1})"), {"top_k", "-1"});
  expect_parts(refusal(R"({"repetition_penalty": 0})"), {"repetition_penalty", "found 0"});
  expect_parts(refusal(R"({"do_sample": 1})"), {"do_sample", "the number 1", "true or false"});
  expect_parts(refusal(R"({"eos_token_id": [151645, 151936]})"), {"eos_token_id", "151936", "151935"});
  expect_parts(refusal("[]"), {"generation_config.json", "a list of 0"});
}

}  // namespace
}  // namespace zoetrope::test
