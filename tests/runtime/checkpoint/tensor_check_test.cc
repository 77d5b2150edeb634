// Tensors against the configuration and the index. Stand-ins with true headers: nothing but names, types and shapes
// matters.
#include "runtime/checkpoint/tensor_check.h"

#include <algorithm>

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

class TensorCheck : public ::testing::Test {
 protected:
  // Configuration and tensors of a golden, to be changed before write().
  void take(const std::string& golden) {
    config_ = boost::json::parse(read_text(golden_checkpoint(golden) / "config.json")).as_object();
    tensors_ = stored_tensors(parsed(config_));
  }
  FileTensor& tensor(const std::string& name) {
    const auto found =
        std::find_if(tensors_.begin(), tensors_.end(), [&](const FileTensor& t) { return t.name == name; });
    if (found == tensors_.end()) {
      throw std::runtime_error("no tensor " + name);
    }
    return *found;
  }
  void drop(const std::string& name) {
    tensor(name);
    std::erase_if(tensors_, [&](const FileTensor& t) { return t.name == name; });
  }
  void write() {
    write_text(folder_.path() / "config.json", boost::json::serialize(config_));
    write_weights(folder_.path(), tensors_, [](const std::string& name) {
      return name.starts_with("model.visual.") ? "model-2.safetensors" : "model-1.safetensors";
    });
  }
  std::vector<std::string> problems() {
    Problems problems;
    notes_.clear();
    Checkpoint::open_all(folder_.path(), problems, notes_);
    return problems.lines();
  }
  // The one problem there is.
  std::string problem() {
    write();
    const auto lines = problems();
    EXPECT_EQ(lines.size(), 1U) << (lines.empty() ? "" : lines.back());
    return lines.empty() ? "" : lines[0];
  }

  TemporaryFolder folder_;
  boost::json::object config_;
  std::vector<FileTensor> tensors_;
  std::vector<std::string> notes_;
};

constexpr const char* kDown = "model.language_model.layers.2.mlp.experts.down_proj";
constexpr const char* kQkv = "model.visual.blocks.1.attn.qkv.weight";

TEST_F(TensorCheck, AcceptsTheGoldens) {
  for (const char* golden : {"tiny-dense", "tiny-moe", "tiny-moe-fp8", "tiny-moe-yarn"}) {
    take(golden);
    write();
    EXPECT_TRUE(problems().empty()) << golden << ": " << problems().front();
    EXPECT_TRUE(notes_.empty());
  }
}

TEST_F(TensorCheck, Missing) {
  take("tiny-moe");
  drop(kDown);
  expect_parts(problem(), {std::string("tensor '") + kDown + "' in " + folder_.path().string(),
                           "nothing (it is missing)", "expected BF16 [8, 64, 128], as config.json says"});
}

TEST_F(TensorCheck, MissingThoughTheIndexNamesIt) {
  take("tiny-moe");
  write();
  drop(kQkv);
  std::vector<FileTensor> vision;
  std::copy_if(tensors_.begin(), tensors_.end(), std::back_inserter(vision),
               [](const FileTensor& t) { return t.name.starts_with("model.visual."); });
  write_shard(folder_.path() / "model-2.safetensors", vision);
  ASSERT_EQ(problems().size(), 1U);
  expect_parts(problems()[0], {std::string("tensor '") + kQkv + "' in", "/model-2.safetensors",
                               "nothing (it is missing)", "BF16 [144, 48]"});
}

TEST_F(TensorCheck, Extra) {
  take("tiny-moe");
  tensors_.push_back({"model.language_model.layers.5.input_layernorm.weight", "BF16", {128}});
  expect_parts(problem(), {"tensor 'model.language_model.layers.5.input_layernorm.weight' in", "model-1.safetensors",
                           "found BF16 [128]", "no such tensor for this config.json"});
}

TEST_F(TensorCheck, Misshapen) {
  take("tiny-moe");
  tensor(kDown).shape = {8, 128, 64};  // as if the expert weights were [out, in]
  expect_parts(problem(), {std::string("tensor '") + kDown + "' in", "model-1.safetensors", "found BF16 [8, 128, 64]",
                           "expected BF16 [8, 64, 128], as config.json says"});
}

TEST_F(TensorCheck, TypesThatAreNotImplemented) {
  for (const std::string type : {"F16", "F32"}) {
    take("tiny-moe");
    tensor(kQkv).type = type;
    if (type == "F16") {
      expect_parts(problem(),
                   {kQkv, "found F16 [144, 48]", "expected BF16 [144, 48]", "F16 weights are not implemented"});
    } else {
      expect_parts(problem(), {kQkv, "found F32 [144, 48]", "expected BF16 [144, 48]"});
    }
  }
}

TEST_F(TensorCheck, QuantisedWithoutAQuantisationConfig) {
  take("tiny-moe-fp8");
  config_.erase("quantization_config");
  write();
  const auto lines = problems();
  EXPECT_EQ(lines.size(), 48U);  // 24 weights that may not be F8_E4M3, 24 scales that should not be there
  expect_parts(lines.front(), {"q_proj.weight", "found F8_E4M3 [512, 256]", "expected BF16 [512, 256]"});
  expect_parts(lines.back(), {"_scale_inv", "found F32", "no such tensor"});
}

TEST_F(TensorCheck, ScalesMissingOrMisshapen) {
  const std::string scale = "model.language_model.layers.0.self_attn.q_proj.weight_scale_inv";
  take("tiny-moe-fp8");
  drop(scale);
  expect_parts(problem(), {"tensor '" + scale, "nothing (it is missing)", "expected F32 [4, 2]"});
  take("tiny-moe-fp8");
  tensor(scale).shape = {2, 4};
  expect_parts(problem(),
               {"tensor '" + scale, "found F32 [2, 4]", "expected F32 [4, 2], one scale per block of 128 x 128"});
  take("tiny-moe-fp8");
  tensor(scale).type = "BF16";
  expect_parts(problem(), {"tensor '" + scale, "found BF16 [4, 2]", "expected F32 [4, 2]"});
}

// The type of each tensor decides, not the list of excluded modules.
TEST_F(TensorCheck, AQuantisedCheckpointMayKeepAWeightInBf16) {
  const std::string weight = "model.language_model.layers.0.self_attn.q_proj.weight";
  take("tiny-moe-fp8");
  tensor(weight).type = "BF16";
  drop(weight + "_scale_inv");
  write();
  EXPECT_TRUE(problems().empty());
  take("tiny-moe-fp8");
  tensor(weight).type = "BF16";  // with scales that nothing multiplies
  expect_parts(problem(), {weight + "_scale_inv", "no such tensor"});
}

TEST_F(TensorCheck, AnotherCheckpointsConfiguration) {
  take("tiny-moe");
  config_["text_config"].as_object()["num_hidden_layers"] = 6;
  write();
  const auto lines = problems();
  EXPECT_EQ(lines.size(), 11U);  // the sixth layer
  expect_parts(lines[0], {"tensor 'model.language_model.layers.5.input_layernorm.weight'", "nothing (it is missing)",
                          "BF16 [128]"});
  expect_parts(message_of([&] { Checkpoint::open(folder_.path()); }),
               {"layers.5.input_layernorm.weight", "(10 more problems: `zoetrope inspect` lists all)"});
}

TEST_F(TensorCheck, IndexAndShardsDisagree) {
  take("tiny-moe");
  write();
  edit_json(folder_.path() / "model.safetensors.index.json", [](boost::json::object& index) {
    auto& map = index["weight_map"].as_object();
    map[kQkv] = "model-1.safetensors";
    map.erase(kDown);
    map["ghost"] = "model-1.safetensors";
    index["metadata"].as_object()["total_size"] = 5;
  });
  const auto lines = problems();
  ASSERT_EQ(lines.size(), 3U);
  expect_parts(lines[0], {kDown, "no entry in the index", "'model-1.safetensors' in the index"});
  expect_parts(lines[1], {kQkv, "'model-1.safetensors' in the index", "'model-2.safetensors' in the index"});
  expect_parts(lines[2], {"tensor 'ghost' in", "model-1.safetensors", "missing"});
}

TEST_F(TensorCheck, WrongTotalSizeIsANote) {
  take("tiny-moe");
  write();
  edit_json(folder_.path() / "model.safetensors.index.json",
            [](boost::json::object& index) { index["metadata"].as_object()["total_size"] = 5; });
  EXPECT_TRUE(problems().empty());
  ASSERT_EQ(notes_.size(), 1U);
  expect_parts(notes_[0], {"total_size 5", "4448480 bytes"});
}

TEST_F(TensorCheck, OneTensorInTwoFiles) {
  take("tiny-moe");
  write();
  std::vector<FileTensor> vision;
  std::copy_if(tensors_.begin(), tensors_.end(), std::back_inserter(vision),
               [](const FileTensor& t) { return t.name.starts_with("model.visual."); });
  vision.push_back({"model.language_model.norm.weight", "BF16", {128}});
  write_shard(folder_.path() / "model-2.safetensors", vision);
  ASSERT_FALSE(problems().empty());
  expect_parts(problems()[0], {"tensor 'model.language_model.norm.weight' in", "model-2.safetensors", "also in",
                               "model-1.safetensors", "each tensor in one file"});
}

TEST_F(TensorCheck, AMissingShardIsOneProblem) {
  take("tiny-moe");
  write();
  fs::remove(folder_.path() / "model-2.safetensors");
  ASSERT_EQ(problems().size(), 1U);
  expect_parts(problems()[0], {"/model-2.safetensors: found no such file", "fetch the missing file"});
}

TEST_F(TensorCheck, ABrokenTensorIsOneProblem) {
  take("tiny-moe");
  write();
  fs::resize_file(folder_.path() / "model-2.safetensors", fs::file_size(folder_.path() / "model-2.safetensors") - 1);
  ASSERT_EQ(problems().size(), 1U);
  expect_parts(problems()[0], {"tensor '", "model-2.safetensors", "truncated?"});
}

}  // namespace
}  // namespace zoetrope::test
