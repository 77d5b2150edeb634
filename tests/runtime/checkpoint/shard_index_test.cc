#include "runtime/checkpoint/shard_index.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

class ShardIndexTest : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& text) { write_text(folder_.path() / name, text); }
  ShardIndex read() { return read_shard_index(folder_.path(), notes_); }
  std::string refusal() {
    return message_of([&] { read(); });
  }

  TemporaryFolder folder_;
  std::vector<std::string> notes_;
};

constexpr const char* kIndex = "model.safetensors.index.json";

TEST_F(ShardIndexTest, ReadsThePublishedIndex) {
  put(kIndex, read_text(published(kIndex)));
  const ShardIndex index = read();
  EXPECT_TRUE(index.present);
  EXPECT_EQ(index.weight_map.size(), 882U);
  ASSERT_EQ(index.files.size(), 13U);
  EXPECT_EQ(index.files.front(), "model-00001-of-00013.safetensors");
  EXPECT_EQ(index.weight_map.at("lm_head.weight"), "model-00013-of-00013.safetensors");
  EXPECT_EQ(index.total_size, 62141508064U);
}

TEST_F(ShardIndexTest, OneFileNeedsNoIndex) {
  put("model.safetensors", "x");
  const ShardIndex index = read();
  EXPECT_FALSE(index.present);
  EXPECT_EQ(index.files, (std::vector<std::string>{"model.safetensors"}));
  EXPECT_TRUE(index.weight_map.empty());
}

TEST_F(ShardIndexTest, SaysWhatStandsInsteadOfWeights) {
  expect_parts(refusal(), {"found no safetensors file", "expected model.safetensors or model.safetensors.index.json"});
  put("pytorch_model.bin", "x");
  expect_parts(refusal(), {"'pytorch_model.bin' (such files are never loaded)"});
  put("model-00001-of-00002.safetensors", "x");
  expect_parts(refusal(), {"1 safetensors file ('model-00001-of-00002.safetensors') but no index"});
}

TEST_F(ShardIndexTest, RefusesTwoSetsOfWeights) {
  put("model.safetensors", "x");
  put(kIndex, R"({"weight_map": {"a": "model-1.safetensors"}})");
  expect_parts(refusal(), {"model.safetensors and an index that names other files", "one set of weights"});
  put(kIndex, R"({"weight_map": {"a": "model.safetensors"}})");
  EXPECT_EQ(read().files.size(), 1U);
}

TEST_F(ShardIndexTest, NotesShardsThatNobodyNames) {
  put(kIndex, R"({"weight_map": {"a": "model-1.safetensors"}})");
  put("model-2.safetensors", "x");
  read();
  ASSERT_EQ(notes_.size(), 1U);
  EXPECT_NE(notes_[0].find("'model-2.safetensors'"), std::string::npos);
}

TEST_F(ShardIndexTest, RefusesNamesThatLeadOut) {
  for (const std::string name : {"../other/model.safetensors", "/etc/passwd", "a/b.safetensors"}) {
    put(kIndex, R"({"weight_map": {"a": ")" + name + R"("}})");
    expect_parts(refusal(), {"the file name '" + name + "'", "a plain file name inside the folder"});
  }
  put(kIndex, R"({"weight_map": {"a": "model.bin"}})");
  expect_parts(refusal(), {"weight_map.'a'", "'model.bin'", "a .safetensors file"});
}

TEST_F(ShardIndexTest, RefusesWhatIsNoIndex) {
  put(kIndex, "version https://git-lfs.github.com/spec/v1\n");
  expect_parts(refusal(), {kIndex, "Git LFS pointer"});
  put(kIndex, "{}");
  expect_parts(refusal(), {"index.json: weight_map", "missing"});
  put(kIndex, R"({"weight_map": {}})");
  expect_parts(refusal(), {"index.json: weight_map", "an empty object"});
  put(kIndex, R"({"weight_map": {"a": 1}})");
  expect_parts(refusal(), {"weight_map.'a'", "the number 1"});
  put(kIndex, R"({"weight_map": {"a": "b.safetensors"}, "metadata": {"total_size": -1}})");
  expect_parts(refusal(), {"metadata.total_size", "-1"});
  put(kIndex, R"({"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}})");
  expect_parts(refusal(), {"'a' stands twice"});
}

}  // namespace
}  // namespace zoetrope::test
