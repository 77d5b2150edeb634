#include "runtime/checkpoint/inspect.h"

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/digest.h"
#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

std::map<std::string, Inspection::Sum> parts_of(const Inspection& inspection) {
  return {inspection.parts.begin(), inspection.parts.end()};
}

TEST(Inspect, SumsOfAGolden) {
  const Inspection inspection = inspect_checkpoint(golden_checkpoint("tiny-moe-fp8"), {.digests = true});
  EXPECT_TRUE(inspection.ok());
  EXPECT_EQ(inspection.exit_status(), 0);
  EXPECT_EQ(inspection.total.tensors, 146U);
  EXPECT_EQ(inspection.total.bytes, 7373616U);
  EXPECT_EQ(inspection.total.parameters, 5652408U);
  auto parts = parts_of(inspection);
  EXPECT_EQ(parts["experts"].parameters, 4U * 6 * 3 * 256 * 128);
  EXPECT_EQ(parts["experts"].bytes, 4U * (6 * 3 * 256 * 128 + 6 * (2 * 2 + 1 * 2) * 4));
  EXPECT_EQ(parts["attention"].parameters, 4U * 256 * (512 + 256 + 256 + 512));
  EXPECT_EQ(parts["embedding"].bytes, 2U * 1536 * 256);
  EXPECT_EQ(parts["head"].bytes, 2U * 1536 * 256);
  EXPECT_EQ(inspection.types.at("F32").tensors, 24U);
  EXPECT_EQ(inspection.types.at("F8_E4M3").tensors, 24U);
  EXPECT_EQ(inspection.kv_bytes_per_token, 4U * 2 * 2 * 256);
  EXPECT_EQ(inspection.head, "lm_head.weight");
  EXPECT_EQ(inspection.digest, Checkpoint::open(golden_checkpoint("tiny-moe-fp8")).digest());
  EXPECT_EQ(inspection.tp, (std::vector<int>{1, 2, 4}));
  ASSERT_EQ(inspection.files.size(), 13U);
  for (const Inspection::File& file : inspection.files) {
    EXPECT_EQ(file.sha256, file_digest(golden_checkpoint("tiny-moe-fp8") / file.name));
    EXPECT_EQ(file.bytes, fs::file_size(golden_checkpoint("tiny-moe-fp8") / file.name));
  }
}

// Section 1.3 of the specification, last lines.
TEST(Inspect, KvBytesPerToken) {
  const std::map<std::string, std::uint64_t> rows = {{"2B", 114688},  {"4B", 147456},     {"8B", 147456},
                                                     {"32B", 262144}, {"30B-A3B", 98304}, {"235B-A22B", 192512}};
  for (const auto& [size, bytes] : rows) {
    TemporaryFolder folder;
    const auto config = published_config(size);
    write_text(folder.path() / "config.json", boost::json::serialize(config));
    write_shard(folder.path() / "model.safetensors", stored_tensors(parsed(config)));
    const Inspection inspection = inspect_checkpoint(folder.path());
    EXPECT_TRUE(inspection.ok()) << inspection.problems.front();
    EXPECT_EQ(inspection.kv_bytes_per_token, bytes) << size;
    EXPECT_TRUE(inspection.files.back().sha256.empty());  // shards are hashed on request only
  }
}

TEST(Inspect, ListsEveryProblem) {
  TemporaryFolder folder;
  copy_golden("tiny-moe", folder.path());
  edit_json(folder.path() / "config.json",
            [](boost::json::object& config) { config["text_config"].as_object()["vocab_size"] = 1600; });
  edit_json(folder.path() / "preprocessor_config.json",
            [](boost::json::object& settings) { settings["merge_size"] = 4; });
  write_text(folder.path() / "generation_config.json", "{");
  const Inspection inspection = inspect_checkpoint(folder.path());
  EXPECT_FALSE(inspection.ok());
  EXPECT_EQ(inspection.exit_status(), 1);
  ASSERT_EQ(inspection.problems.size(), 4U);
  expect_parts(inspection.problems[0], {"generation_config.json: not valid JSON"});
  expect_parts(inspection.problems[1], {"preprocessor_config.json: merge_size"});
  expect_parts(inspection.problems[2], {"embed_tokens.weight", "found BF16 [1536, 128]", "expected BF16 [1600, 128]"});
  expect_parts(inspection.problems[3], {"lm_head.weight", "[1600, 128]"});
  EXPECT_TRUE(inspection.digest.empty());
  EXPECT_EQ(inspection.total.tensors, 145U);
}

TEST(Inspect, NeverThrowsForWhatIsInside) {
  TemporaryFolder folder;
  EXPECT_EQ(inspect_checkpoint(folder.path() / "absent").problems.size(), 1U);
  EXPECT_EQ(inspect_checkpoint(folder.path()).problems.size(), 1U);
  copy_golden("tiny-dense", folder.path());
  edit_json(folder.path() / "config.json",
            [](boost::json::object& config) { config["architectures"] = {"LlamaForCausalLM"}; });
  const Inspection unknown = inspect_checkpoint(folder.path());
  ASSERT_EQ(unknown.problems.size(), 1U);
  expect_parts(unknown.problems[0], {"architectures", "'LlamaForCausalLM'", "Qwen3VLForConditionalGeneration"});
  EXPECT_FALSE(unknown.config.has_value());
  fs::remove(folder.path() / "tokenizer.json");
  fs::create_symlink("/etc/hostname", folder.path() / "tokenizer.json");
  EXPECT_EQ(inspect_checkpoint(folder.path()).problems.size(), 2U);
}

}  // namespace
}  // namespace zoetrope::test
