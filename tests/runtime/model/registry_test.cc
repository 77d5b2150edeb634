// Which architecture runs which class: registry.cc.
#include <gtest/gtest.h>

#include "runtime/model/qwen3_vl.h"
#include "tests/runtime/model/tiny_models.h"

namespace zoetrope::test {
namespace {

TEST(Registry, DenseAndMixtureOfExpertsAreQwen3Vl) {
  for (const auto& [name, architecture] : {std::pair{"tiny-dense", "Qwen3VLForConditionalGeneration"},
                                           std::pair{"tiny-moe", "Qwen3VLMoeForConditionalGeneration"}}) {
    const Checkpoint checkpoint = open_tiny(name);
    ASSERT_EQ(checkpoint.config().architecture, architecture);
    Ranks ranks = self_ranks();
    ThreadPool pool(1);
    const auto model = load_tiny(checkpoint, ranks, pool, Precision::kBf16);
    EXPECT_NE(dynamic_cast<const Qwen3Vl*>(model.get()), nullptr);
    EXPECT_EQ(model->config().architecture, architecture);
  }
}

}  // namespace
}  // namespace zoetrope::test
