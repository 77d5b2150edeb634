#include "runtime/checkpoint/checkpoint.h"

#include <cstring>
#include <set>

#include "tests/runtime/checkpoint/checkpoint_folder.h"
#include "tests/safetensors_file.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

TEST(Checkpoint, OpensTheGoldens) {
  struct Row {
    const char* name;
    std::size_t tensors;
    std::uint64_t bytes;
    bool head_is_embedding;
  };
  for (const Row& row : {Row{"tiny-dense", 121, 6957696, true}, Row{"tiny-moe", 145, 4448480, false},
                         Row{"tiny-moe-fp8", 146, 7373616, false}, Row{"tiny-moe-yarn", 145, 4448480, false}}) {
    SCOPED_TRACE(row.name);
    Problems problems;
    std::vector<std::string> notes;
    Checkpoint::open_all(golden_checkpoint(row.name), problems, notes);
    EXPECT_TRUE(notes.empty());
    const Checkpoint checkpoint = Checkpoint::open(golden_checkpoint(row.name));
    EXPECT_EQ(checkpoint.tensor_count(), row.tensors);
    EXPECT_EQ(checkpoint.bytes_total(), row.bytes);
    EXPECT_EQ(checkpoint.head_is_embedding(), row.head_is_embedding);
    EXPECT_EQ(checkpoint.head().name,
              row.head_is_embedding ? "model.language_model.embed_tokens.weight" : "lm_head.weight");
    EXPECT_EQ(checkpoint.folder(), golden_checkpoint(row.name));
  }
}

TEST(Checkpoint, TensorsByName) {
  const Checkpoint checkpoint = Checkpoint::open(golden_checkpoint("tiny-moe-fp8"));
  const std::string name = tensor_names::experts_down(1);
  const StoredTensor& weight = checkpoint.tensor(name);
  EXPECT_EQ(weight.type, StoredType::kF8E4M3);
  EXPECT_EQ(weight.shape, (std::vector<std::int64_t>{6, 128, 256}));
  const StoredTensor* scale = checkpoint.find(tensor_names::scale_of(name));
  ASSERT_NE(scale, nullptr);
  EXPECT_EQ(scale->shape, (std::vector<std::int64_t>{6, 1, 2}));
  const SafetensorsFile file(scale->file->path());
  EXPECT_EQ(std::vector<float>(scale->as<float>(), scale->as<float>() + 12), file.data<float>(scale->name));
  EXPECT_EQ(checkpoint.find("nothing"), nullptr);
  EXPECT_EQ(checkpoint.parameters(), 5652408U);
  EXPECT_DEATH(checkpoint.tensor("nothing"), "nothing");
}

// Headers and totals of every published size, FP8 too, on sparse files.
TEST(Checkpoint, OpensEveryPublishedSize) {
  struct Row {
    const char* size;
    bool fp8;
    std::size_t tensors;
    std::uint64_t parameters, bytes;  // bytes 0: only known for BF16
  };
  for (const Row& row :
       {Row{"2B", false, 625, 2127532032, 4255064064}, Row{"4B", false, 713, 4437815808, 8875631616},
        Row{"8B", false, 750, 8767123696, 17534247392}, Row{"32B", false, 1058, 33357390064, 66714780128},
        Row{"30B-A3B", false, 882, 31070754032, 62141508064}, Row{"235B-A22B", false, 1388, 235670022896, 471340045792},
        Row{"30B-A3B", true, 1170, 31070754032, 0}, Row{"235B-A22B", true, 1952, 235670022896, 0}}) {
    SCOPED_TRACE(row.size);
    TemporaryFolder folder;
    const boost::json::object config = row.fp8 ? with_fp8(published_config(row.size)) : published_config(row.size);
    write_text(folder.path() / "config.json", boost::json::serialize(config));
    std::size_t count = 0;
    write_weights(folder.path(), stored_tensors(parsed(config)), [&](const std::string& name) {
      return "model-" + std::to_string(std::hash<std::string>{}(name) % 7) + ".safetensors";
    });
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    EXPECT_EQ(checkpoint.tensor_count(), row.tensors);
    EXPECT_EQ(checkpoint.parameters(), row.parameters);
    if (row.bytes != 0) {
      EXPECT_EQ(checkpoint.bytes_total(), row.bytes);
    }
    EXPECT_EQ(checkpoint.digest().size(), 64U);
    for (const auto& shard : checkpoint.shards()) {
      count += shard->tensors().size();
    }
    EXPECT_EQ(count, row.tensors);
  }
}

// The published index over thirteen stand-ins of the published shards.
TEST(Checkpoint, OpensThePublishedIndex) {
  TemporaryFolder folder;
  fs::copy_file(published("config.json"), folder.path() / "config.json");
  fs::copy_file(published("generation_config.json"), folder.path() / "generation_config.json");
  const auto index = boost::json::parse(read_text(published("model.safetensors.index.json")));
  write_weights(folder.path(), stored_tensors(read_model_config(folder.path())),
                [&](const std::string& name) { return std::string(index.at("weight_map").at(name).as_string()); });
  fs::copy_file(published("model.safetensors.index.json"), folder.path() / "model.safetensors.index.json",
                fs::copy_options::overwrite_existing);
  Problems problems;
  std::vector<std::string> notes;
  const Checkpoint checkpoint = Checkpoint::open_all(folder.path(), problems, notes);
  EXPECT_TRUE(problems.empty()) << problems.lines().front();
  EXPECT_TRUE(notes.empty()) << notes.front();
  EXPECT_EQ(checkpoint.shards().size(), 13U);
  EXPECT_EQ(checkpoint.bytes_total(), 62141508064U);
  EXPECT_EQ(checkpoint.generation().temperature, 0.8);
  EXPECT_EQ(checkpoint.generation().eos, (std::vector<std::int32_t>{151645, 151643}));
}

// text_config true: the embedding, whatever the files hold. Not true: lm_head, and the embedding only when there is
// none.
TEST(Checkpoint, TheRuleOfTheHead) {
  const auto head = [](bool tied, bool stored, std::size_t expected_notes) {
    TemporaryFolder folder;
    boost::json::object config =
        boost::json::parse(read_text(golden_checkpoint("tiny-dense") / "config.json")).as_object();
    config["text_config"].as_object()["tie_word_embeddings"] = false;
    std::vector<FileTensor> tensors = stored_tensors(parsed(config));
    config["text_config"].as_object()["tie_word_embeddings"] = tied;
    if (!stored) {
      std::erase_if(tensors, [](const FileTensor& t) { return t.name == "lm_head.weight"; });
    }
    write_text(folder.path() / "config.json", boost::json::serialize(config));
    write_shard(folder.path() / "model.safetensors", tensors);
    Problems problems;
    std::vector<std::string> notes;
    const Checkpoint checkpoint = Checkpoint::open_all(folder.path(), problems, notes);
    EXPECT_TRUE(problems.empty());
    EXPECT_EQ(notes.size(), expected_notes);
    return checkpoint.head().name;
  };
  EXPECT_EQ(head(true, true, 1), "model.language_model.embed_tokens.weight");
  EXPECT_EQ(head(true, false, 0), "model.language_model.embed_tokens.weight");
  EXPECT_EQ(head(false, true, 0), "lm_head.weight");
  EXPECT_EQ(head(false, false, 1), "model.language_model.embed_tokens.weight");
}

TEST(Checkpoint, DigestKnowsContentsAndConfigurationNotTheSplit) {
  TemporaryFolder a, b;
  copy_golden("tiny-moe", a.path());
  const std::string digest = Checkpoint::open(a.path()).digest();
  EXPECT_EQ(digest, Checkpoint::open(golden_checkpoint("tiny-moe")).digest());
  EXPECT_NE(digest,
            Checkpoint::open(golden_checkpoint("tiny-moe-yarn")).digest());  // the same weights, another configuration
  // The same tensors in one file instead of two.
  fs::copy_file(a.path() / "config.json", b.path() / "config.json");
  boost::json::object header;
  std::string data;
  const Checkpoint two_files = Checkpoint::open(a.path());
  for (const auto& shard : two_files.shards()) {
    for (const StoredTensor& tensor : shard->tensors()) {
      header[tensor.name] = {{"dtype", "BF16"},
                             {"shape", boost::json::array(tensor.shape.begin(), tensor.shape.end())},
                             {"data_offsets", {data.size(), data.size() + tensor.bytes}}};
      data.append(reinterpret_cast<const char*>(tensor.data), tensor.bytes);
    }
  }
  std::string text = boost::json::serialize(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  write_sparse(b.path() / "model.safetensors", text, 0);
  write_text(b.path() / "model.safetensors", read_text(b.path() / "model.safetensors") + data);
  EXPECT_EQ(Checkpoint::open(b.path()).digest(), digest);
  // One byte of a small tensor, then the last byte of a large one.
  const std::string whole = read_text(b.path() / "model.safetensors");
  std::set<std::string> seen{digest};
  const auto offsets = [&](const char* name) {
    return 8 + text.size() + header[name].at("data_offsets").at(1).to_number<std::size_t>() - 1;
  };
  for (const char* name : {"model.language_model.norm.weight", "lm_head.weight"}) {
    std::string changed = whole;
    changed[offsets(name)] ^= 1;
    write_text(b.path() / "model.safetensors", changed);
    EXPECT_TRUE(seen.insert(Checkpoint::open(b.path()).digest()).second) << name;
  }
}

TEST(Checkpoint, RefusesBadFoldersInOneLine) {
  TemporaryFolder folder;
  const auto refusal = [&] { return message_of([&] { Checkpoint::open(folder.path()); }); };
  expect_parts(refusal(), {"an empty folder", "config.json"});
  copy_golden("tiny-moe", folder.path());
  EXPECT_EQ(Checkpoint::open(folder.path()).tensor_count(), 145U);

  write_text(folder.path() / "model-00002-of-00002.safetensors",
             "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2162168\n");
  expect_parts(refusal(), {"model-00002-of-00002.safetensors: found a Git LFS pointer instead of the file"});
  fs::remove(folder.path() / "model-00002-of-00002.safetensors");
  expect_parts(refusal(), {"model-00002-of-00002.safetensors: found no such file"});
  fs::remove(folder.path() / "model.safetensors.index.json");
  expect_parts(refusal(), {"1 safetensors file ('model-00001-of-00002.safetensors') but no index"});

  copy_golden("tiny-moe", folder.path());
  edit_json(folder.path() / "config.json",
            [](boost::json::object& config) { config["text_config"].as_object()["moe_intermediate_size"] = 96; });
  expect_parts(refusal(), {"tensor 'model.language_model.layers.0.mlp.experts.gate_up_proj' in",
                           "model-00001-of-00002.safetensors", "found BF16 [8, 128, 128]",
                           "expected BF16 [8, 128, 192], as config.json says", "more problems"});
  copy_golden("tiny-moe", folder.path());
  edit_json(folder.path() / "preprocessor_config.json",
            [](boost::json::object& settings) { settings["patch_size"] = 14; });
  expect_parts(refusal(), {"preprocessor_config.json: patch_size", "14", "16"});
  copy_golden("tiny-moe", folder.path());
  edit_json(folder.path() / "generation_config.json", [](boost::json::object& settings) { settings["num_beams"] = 5; });
  expect_parts(refusal(), {"generation_config.json: num_beams"});
  copy_golden("tiny-moe", folder.path());
  write_text(folder.path() / "modeling_qwen3_vl.py", "raise SystemExit");  // code in the folder is never looked at
  EXPECT_EQ(Checkpoint::open(folder.path()).tensor_count(), 145U);
}

}  // namespace
}  // namespace zoetrope::test
