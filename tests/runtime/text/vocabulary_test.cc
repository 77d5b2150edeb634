#include "runtime/text/vocabulary.h"

#include <gtest/gtest.h>

#include <fstream>

#include "monitoring/error.h"
#include "runtime/json/json.h"
#include "tests/golden_folder.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& file, const std::string& content) { std::ofstream(file, std::ios::binary) << content; }

// A folder with the tokenizer files of a small golden checkpoint, to be damaged.
class VocabularyTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void copy(const std::string& name) const { fs::copy_file(checkpoint_ / name, folder_ / name); }

  // tokenizer.json with one change made to it.
  template <typename F>
  std::string changed(F change) const {
    json::Value value = json::parse_file(checkpoint_ / "tokenizer.json", Radius::kStartup);
    change(value.as_object());
    write(folder_ / "tokenizer.json", boost::json::serialize(value));
    return refusal();
  }

  std::string refusal() const {
    try {
      load_vocabulary(folder_);
    } catch (const Error& error) {
      EXPECT_EQ(error.radius(), Radius::kStartup);
      return error.what();
    }
    return "accepted";
  }

  const fs::path checkpoint_ = test::golden_folder() / "checkpoints" / "tiny-dense";
  const fs::path folder_ = fs::path(testing::TempDir()) / "zoetrope_vocabulary_test";
};

bool mentions(const std::string& message, std::string_view part) { return message.find(part) != std::string::npos; }

json::Object& model(json::Object& file) { return file["model"].as_object(); }

TEST_F(VocabularyTest, ReadsTheThreeForms) {
  const Vocabulary pairs = load_vocabulary(checkpoint_);  // merges as ["a", "b"]
  ASSERT_EQ(pairs.bytes.size(), 1500u);
  EXPECT_EQ(pairs.merges.size(), 1244u);
  ASSERT_EQ(pairs.added.size(), 26u);
  EXPECT_EQ(pairs.added[2].surface, "<|im_end|>");
  EXPECT_EQ(pairs.added[2].id, 1502);
  EXPECT_TRUE(pairs.added[2].special);
  EXPECT_FALSE(pairs.added.back().special);

  EXPECT_EQ(changed([](json::Object& file) {  // merges as "a b"
              for (json::Value& merge : model(file)["merges"].as_array()) {
                merge =
                    std::string(merge.as_array()[0].as_string()) + " " + std::string(merge.as_array()[1].as_string());
              }
            }),
            "accepted");
  const Vocabulary lines = load_vocabulary(folder_);
  fs::remove(folder_ / "tokenizer.json");
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) {
    copy(name);
  }
  const Vocabulary older = load_vocabulary(folder_);
  for (const Vocabulary* other : {&lines, &older}) {
    EXPECT_EQ(other->bytes, pairs.bytes);
    EXPECT_EQ(other->byte_tokens, pairs.byte_tokens);
    ASSERT_EQ(other->merges.size(), pairs.merges.size());
    for (std::size_t i = 0; i < pairs.merges.size(); ++i) {
      EXPECT_EQ(other->merges[i].whole, pairs.merges[i].whole);
    }
    ASSERT_EQ(other->added.size(), pairs.added.size());
  }
}

TEST_F(VocabularyTest, MergesSpellTheirTokens) {
  const Vocabulary vocabulary = load_vocabulary(checkpoint_);
  const auto bytes = [&](TokenId id) { return vocabulary.bytes[static_cast<std::size_t>(id)]; };
  for (const BytePairs::Merge& merge : vocabulary.merges) {
    EXPECT_EQ(bytes(merge.left) + bytes(merge.right), bytes(merge.whole));
  }
  for (std::size_t b = 0; b < 256; ++b) {
    EXPECT_EQ(bytes(vocabulary.byte_tokens[b]), std::string(1, static_cast<char>(b)));
  }
}

TEST_F(VocabularyTest, RefusesAFolderWithoutTokenizer) {
  EXPECT_TRUE(mentions(refusal(), "no tokenizer")) << refusal();
  copy("vocab.json");
  EXPECT_TRUE(mentions(refusal(), "tokenizer_config.json")) << refusal();
  copy("tokenizer_config.json");
  EXPECT_TRUE(mentions(refusal(), "merges.txt")) << refusal();
}

TEST_F(VocabularyTest, RefusesOtherPipelines) {
  EXPECT_TRUE(
      mentions(changed([](json::Object& f) { f["normalizer"].as_object()["type"] = "NFKC"; }), "normalizer.type"));
  EXPECT_TRUE(mentions(changed([](json::Object& f) { f["normalizer"] = nullptr; }), "normalizer"));
  EXPECT_TRUE(mentions(
      changed([](json::Object& f) {
        f["pre_tokenizer"].as_object()["pretokenizers"].as_array()[0].as_object()["pattern"].as_object()["Regex"] =
            "\\p{N}{1,3}";
      }),
      "pre_tokenizer.pretokenizers[0].pattern.Regex"));
  EXPECT_TRUE(mentions(changed([](json::Object& f) {
                         f["pre_tokenizer"].as_object()["pretokenizers"].as_array()[1].as_object()["add_prefix_space"] =
                             true;
                       }),
                       "add_prefix_space"));
  EXPECT_TRUE(
      mentions(changed([](json::Object& f) { f["pre_tokenizer"].as_object()["pretokenizers"].as_array().pop_back(); }),
               "1 steps"));
  EXPECT_TRUE(
      mentions(changed([](json::Object& f) { f["decoder"].as_object()["type"] = "Metaspace"; }), "decoder.type"));
  EXPECT_TRUE(mentions(changed([](json::Object& f) { f["post_processor"].as_object()["type"] = "TemplateProcessing"; }),
                       "post_processor.type"));
  EXPECT_TRUE(mentions(changed([](json::Object& f) { model(f)["type"] = "Unigram"; }), "model.type"));
  EXPECT_TRUE(mentions(changed([](json::Object& f) { model(f)["dropout"] = 0.1; }), "model.dropout"));
  EXPECT_TRUE(mentions(changed([](json::Object& f) { model(f)["unk_token"] = "x"; }), "model.unk_token"));
  EXPECT_TRUE(mentions(changed([](json::Object& f) { model(f)["byte_fallback"] = true; }), "model.byte_fallback"));
  EXPECT_TRUE(mentions(changed([](json::Object& f) { model(f)["ignore_merges"] = true; }), "model.ignore_merges"));
  EXPECT_TRUE(
      mentions(changed([](json::Object& f) { model(f)["end_of_word_suffix"] = "</w>"; }), "model.end_of_word_suffix"));
}

TEST_F(VocabularyTest, RefusesDamagedTokens) {
  const auto vocab = [](json::Object& f) -> json::Object& { return model(f)["vocab"].as_object(); };
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f)["zzzz"] = 3; }), "two tokens with this id"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f)["zzzz"] = -1; }), "the number -1"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f)["zzzz"] = 1e15; }), "whole number"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f)["zzzz"] = 9999999; }), "9999999"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f)["zzzz"] = "7"; }), "the text '7'"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f)[""] = 1499; }), "an empty token"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f)["a b"] = 2000; }), "'a b'"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f)["\xE4\xB8\xAD"] = 2000; }), "byte-level alphabet"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { vocab(f).erase("!"); }), "no token for the byte 0x21"));
}

TEST_F(VocabularyTest, RefusesDamagedMerges) {
  const auto merges = [](json::Object& f) -> json::Array& { return model(f)["merges"].as_array(); };
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { merges(f).push_back(merges(f)[0]); }), "a second time"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) {
                         merges(f).push_back(json::Array{"q", "\xC7\xBF"});
                       }),
                       "tokens of the vocabulary"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { merges(f).push_back("nospace"); }), "one space"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { merges(f).push_back("a b c"); }), "one space"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { merges(f).push_back(json::Array{"a"}); }), "a list of 1"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { merges(f).push_back(7); }), "the number 7"));
}

TEST_F(VocabularyTest, RefusesDamagedAddedTokens) {
  const auto added = [](json::Object& f, std::size_t i) -> json::Object& {
    return f["added_tokens"].as_array()[i].as_object();
  };
  for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) {
    EXPECT_TRUE(
        mentions(changed([&](json::Object& f) { added(f, 4)[flag] = true; }), std::string("added_tokens[4].") + flag))
        << flag;
  }
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { added(f, 4)["id"] = 1501; }), "taken"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { added(f, 4)["id"] = 7; }), "taken"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { added(f, 4)["id"] = -7; }), "whole number"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { added(f, 4)["content"] = "<|im_end|>"; }), "taken"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { added(f, 4)["content"] = ""; }), "0 bytes"));
  EXPECT_TRUE(mentions(changed([&](json::Object& f) { added(f, 4)["content"] = std::string(300, 'x'); }), "300 bytes"));
}

TEST_F(VocabularyTest, RefusesFilesThatDisagree) {
  copy("tokenizer.json");
  json::Value config = json::parse_file(checkpoint_ / "tokenizer_config.json", Radius::kStartup);
  json::Object& decoder = config.as_object()["added_tokens_decoder"].as_object();
  write(folder_ / "tokenizer_config.json", boost::json::serialize(config));
  EXPECT_EQ(refusal(), "accepted");
  decoder["1502"].as_object()["special"] = false;
  write(folder_ / "tokenizer_config.json", boost::json::serialize(config));
  EXPECT_TRUE(mentions(refusal(), "added_tokens_decoder")) << refusal();
  decoder["1502"].as_object()["special"] = true;
  decoder["no id"] = decoder["1502"];
  write(folder_ / "tokenizer_config.json", boost::json::serialize(config));
  EXPECT_TRUE(mentions(refusal(), "ids as keys")) << refusal();
}

TEST_F(VocabularyTest, RefusesAnotherClassOfTheOlderForm) {
  for (const char* name : {"vocab.json", "merges.txt"}) {
    copy(name);
  }
  json::Value config = json::parse_file(checkpoint_ / "tokenizer_config.json", Radius::kStartup);
  config.as_object()["tokenizer_class"] = "LlamaTokenizer";
  write(folder_ / "tokenizer_config.json", boost::json::serialize(config));
  EXPECT_TRUE(mentions(refusal(), "LlamaTokenizer")) << refusal();
  config.as_object()["tokenizer_class"] = "Qwen2TokenizerFast";
  write(folder_ / "tokenizer_config.json", boost::json::serialize(config));
  EXPECT_EQ(refusal(), "accepted");
  std::ofstream(folder_ / "merges.txt", std::ios::app | std::ios::binary) << "not a merge\n";
  EXPECT_TRUE(mentions(refusal(), "merges.txt: merge 1244")) << refusal();
  write(folder_ / "merges.txt", "#version: 0.2\r\nm e\r\n\r\nn t\r\n");
  EXPECT_EQ(load_vocabulary(folder_).merges.size(), 2u);
}

TEST_F(VocabularyTest, NamesAGitLfsPointerAndHowToGetTheFile) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7031645\n";
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) {
    copy(name);
  }
  for (const char* name : {"merges.txt", "vocab.json", "tokenizer.json"}) {  // tokenizer.json is read first where it is
    write(folder_ / name, pointer);
    const std::string message = refusal();
    EXPECT_TRUE(mentions(message, std::string(name) + ": found a Git LFS pointer")) << message;
    EXPECT_TRUE(mentions(message, "git lfs pull")) << message;
  }
}

}  // namespace
}  // namespace zoetrope
