#include "runtime/text/template_edition.h"

#include <gtest/gtest.h>

#include <fstream>

#include "monitoring/error.h"
#include "runtime/json/json.h"
#include "tests/golden_folder.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

std::string refusal(const fs::path& folder) {
  try {
    load_edition(folder);
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    return error.what();
  }
  return "accepted";
}

std::string template_of(const std::string& checkpoint) {
  const json::Value file =
      json::parse_file(test::golden_folder() / "checkpoints" / checkpoint / "chat_template.json", Radius::kStartup);
  return std::string(file.as_object().at("chat_template").as_string());
}

class TemplateEdition : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  template <typename T>
  void write_json(const std::string& name, const T& chat_template) const {
    write(name, boost::json::serialize(json::Object{{"chat_template", chat_template}}));
  }
  const fs::path folder_ = fs::path(testing::TempDir()) / "zoetrope_template_edition_test";
};

TEST(LoadEdition, RecognisesTheGoldenCheckpoints) {
  const fs::path checkpoints = test::golden_folder() / "checkpoints";
  EXPECT_EQ(load_edition(checkpoints / "tiny-dense"), Edition::kInstruct);  // chat_template.json
  EXPECT_EQ(load_edition(checkpoints / "tiny-moe"), Edition::kThinking);
  EXPECT_EQ(load_edition(checkpoints / "tiny-moe-fp8"), Edition::kInstruct);  // chat_template.jinja
  EXPECT_EQ(load_edition(checkpoints / "tiny-moe-yarn"), Edition::kThinking);
}

TEST_F(TemplateEdition, RecognisesEachFormAndTakesTheFirst) {
  const std::string instruct = template_of("tiny-dense"), thinking = template_of("tiny-moe");
  write_json("tokenizer_config.json", instruct);
  EXPECT_EQ(load_edition(folder_), Edition::kInstruct);
  write_json("chat_template.json", thinking);
  EXPECT_EQ(load_edition(folder_), Edition::kThinking);
  write("chat_template.jinja", instruct);
  EXPECT_EQ(load_edition(folder_), Edition::kInstruct);
}

TEST_F(TemplateEdition, LooksPastLineEndingsAndTheEnd) {
  const std::string instruct = template_of("tiny-dense");
  std::string windows;
  for (const char c : instruct) {
    windows += c == '\n' ? "\r\n" : std::string(1, c);
  }
  EXPECT_EQ(edition_of(windows, "x"), Edition::kInstruct);
  EXPECT_EQ(edition_of(instruct + "\n \t\n", "x"), Edition::kInstruct);
  EXPECT_EQ(edition_of(instruct.substr(0, instruct.size() - 1), "x"), Edition::kInstruct);
}

TEST_F(TemplateEdition, RefusesWhatItDoesNotKnow) {
  std::string changed = template_of("tiny-dense");
  changed.replace(changed.find("assistant"), 1, "b");
  write_json("chat_template.json", changed);
  EXPECT_NE(refusal(folder_).find("unknown chat template"), std::string::npos) << refusal(folder_);
  EXPECT_NE(refusal(folder_).find("SHA-256"), std::string::npos);
  EXPECT_NE(refusal(folder_).find("never executed"), std::string::npos);
  EXPECT_THROW(edition_of(" " + template_of("tiny-dense"), "x"), Error);
  EXPECT_THROW(edition_of("", "x"), Error);
}

TEST_F(TemplateEdition, RefusesBrokenFiles) {
  EXPECT_NE(refusal(folder_).find("no chat template"), std::string::npos);
  write_json("tokenizer_config.json", nullptr);
  EXPECT_NE(refusal(folder_).find("no chat template"), std::string::npos);
  write_json("tokenizer_config.json", json::Array{json::Value{{"name", "default"}}});
  EXPECT_NE(refusal(folder_).find("a list of 1"), std::string::npos) << refusal(folder_);
  write("chat_template.json", "{");
  EXPECT_NE(refusal(folder_).find("not valid JSON"), std::string::npos);
  write("chat_template.jinja", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5292\n");
  EXPECT_NE(refusal(folder_).find("chat_template.jinja: found a Git LFS pointer"), std::string::npos)
      << refusal(folder_);
  write("chat_template.jinja", "");
  EXPECT_NE(refusal(folder_).find("chat_template.jinja"), std::string::npos) << refusal(folder_);
  write("chat_template.jinja", std::string((1 << 20) + 1, 'x'));
  EXPECT_NE(refusal(folder_).find("1048577 bytes"), std::string::npos) << refusal(folder_);
  fs::remove(folder_ / "chat_template.jinja");
  fs::create_directory(folder_ / "chat_template.jinja");
  EXPECT_NE(refusal(folder_), "accepted");
}

}  // namespace
}  // namespace zoetrope
