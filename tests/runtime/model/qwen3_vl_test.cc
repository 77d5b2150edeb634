#include "runtime/model/qwen3_vl.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "monitoring/error.h"
#include "tests/golden_folder.h"
#include "tests/runtime/model/tiny_models.h"

namespace zoetrope::test {
namespace {

TEST(Qwen3Vl, DescribesItselfToItsCaller) {
  const Checkpoint checkpoint = open_tiny("tiny-moe");
  run_ranks({.ring = 1, .tp = 4}, [&](Ranks& ranks) {
    ThreadPool pool(1);
    const auto model = load_tiny(checkpoint, ranks, pool, Precision::kFp32);
    EXPECT_EQ(model->layers(), 5);
    EXPECT_EQ(model->feature_columns(), 4 * 128);
    EXPECT_EQ(model->kv_layout().kv_heads, 1);  // two KV heads for four ranks: each is held twice
    EXPECT_EQ(model->kv_layout().head_dim, 32);
    EXPECT_EQ(model->kv_layout().precision, Precision::kFp32);
    EXPECT_EQ(model->config().text.experts, 8);
  });
}

TEST(Qwen3Vl, RefusesLayoutsThatCannotCutIt) {
  const auto refused = [](const char* name, Layout layout) {
    const Checkpoint checkpoint = open_tiny(name);
    try {
      run_ranks(layout, [&](Ranks& ranks) {
        ThreadPool pool(1);
        load_tiny(checkpoint, ranks, pool, Precision::kBf16);
      });
    } catch (const Error& error) {
      return error.radius() == Radius::kStartup;
    }
    return false;
  };
  EXPECT_TRUE(refused("tiny-dense", {.ring = 1, .tp = 3}));
  EXPECT_TRUE(refused("tiny-dense", {.ring = 1, .tp = 8}));    // four heads
  EXPECT_TRUE(refused("tiny-moe-fp8", {.ring = 7, .tp = 1}));  // six experts
}

// A copy of a tiny checkpoint in which the router of layer 0 has zeros for weights: it cannot tell experts apart.
Checkpoint open_undecided(const std::filesystem::path& folder) {
  std::filesystem::copy(golden_folder() / "checkpoints" / "tiny-moe", folder);
  int zeroed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") {
      continue;
    }
    std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
    std::uint64_t length = 0;
    file.read(reinterpret_cast<char*>(&length), sizeof(length));
    std::string header(length, ' ');
    file.read(header.data(), static_cast<std::streamsize>(length));
    const std::size_t named = header.find("\"model.language_model.layers.0.mlp.gate.weight\"");
    if (named == std::string::npos) {
      continue;
    }
    const std::size_t offsets = header.find('[', header.find("\"data_offsets\"", named));
    const std::uint64_t first = std::stoull(header.substr(offsets + 1));
    const std::uint64_t end = std::stoull(header.substr(header.find(',', offsets) + 1));
    file.seekp(static_cast<std::streamoff>(8 + length + first));
    file << std::string(end - first, '\0');
    ++zeroed;
  }
  EXPECT_EQ(zeroed, 1);
  return Checkpoint::open(folder);
}

TEST(Qwen3Vl, CountsRoutingTies) {
  const auto folder = std::filesystem::temp_directory_path() / ("zoetrope-qwen3-vl-test-" + std::to_string(::getpid()));
  {
    const Checkpoint checkpoint = open_undecided(folder);
    Ranks ranks = self_ranks();
    ThreadPool pool(1);
    const auto model = load_tiny(checkpoint, ranks, pool, Precision::kBf16);
    EXPECT_EQ(model->routing_ties(), 0);
    Stepper stepper(*model, 2);
    TestSequence prompt = random_prompt(checkpoint.config(), 100, 1);
    stepper.step(prompt, 100);
    EXPECT_GE(model->routing_ties(), 100);  // every row at layer 0; hardly any elsewhere: logits are fp32
    EXPECT_LT(model->routing_ties(), 150);
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace zoetrope::test
