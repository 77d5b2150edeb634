#include "runtime/prompt/token_checks.h"

#include <gtest/gtest.h>

#include <string>

#include "monitoring/error.h"
#include "tests/source_folder.h"

namespace zoetrope {
namespace {

std::string complaint(const ModelConfig& config) {
  static const Tokenizer tokenizer = Tokenizer::load(test::source_folder() / "models" / "lantern-moe");
  try {
    check_tokens(tokenizer, config);
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    return error.what();
  }
  return "";
}

TEST(TokenChecks, ATokenizerOfAnotherCheckpointIsRefused) {
  const ModelConfig config = read_model_config(test::source_folder() / "models" / "lantern-moe");
  EXPECT_EQ(complaint(config), "");
  ModelConfig other = config;
  other.text.vocabulary = 10;
  EXPECT_NE(complaint(other).find("expected ids below vocab_size 10 "), std::string::npos) << complaint(other);
  other = config;
  ++other.image_token;
  EXPECT_NE(complaint(other).find("<|image_pad|>: found id " + std::to_string(config.image_token)), std::string::npos)
      << complaint(other);
  for (std::int32_t ModelConfig::*id :
       {&ModelConfig::video_token, &ModelConfig::vision_start, &ModelConfig::vision_end}) {
    other = config;
    --(other.*id);
    EXPECT_NE(complaint(other), "");
  }
}

}  // namespace
}  // namespace zoetrope
