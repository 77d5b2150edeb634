#include "runtime/model/qwen3_vl.h"

#include <gtest/gtest.h>

#include "monitoring/error.h"
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

// Ties at the routers' cut are rare in random weights but counted: two equal experts make every row a tie.
TEST(Qwen3Vl, CountsRoutingTies) {
  const Checkpoint checkpoint = open_tiny("tiny-moe");
  Ranks ranks = self_ranks();
  ThreadPool pool(1);
  const auto model = load_tiny(checkpoint, ranks, pool, Precision::kBf16);
  EXPECT_EQ(model->routing_ties(), 0);
  Stepper stepper(*model, 8);
  for (unsigned seed = 0; seed < 3; ++seed) {
    TestSequence prompt = random_prompt(checkpoint.config(), 400, seed);
    stepper.step(prompt, 400);
  }
  const std::int64_t ties = model->routing_ties();
  EXPECT_GT(ties, 0);  // 6000 choices among bf16 logits
  EXPECT_LT(ties, 6000 / 10);
}

}  // namespace
}  // namespace zoetrope::test
