#include "runtime/checkpoint/preprocessor_check.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

TEST(PreprocessorCheck, PatchesMustFitTheVisionTower) {
  TemporaryFolder folder;
  const VisionConfig vision = parsed(published_config("2B")).vision;
  const auto found = [&] {
    Problems problems;
    check_preprocessors(folder.path(), vision, problems);
    return problems.lines();
  };
  EXPECT_TRUE(found().empty());
  write_text(folder.path() / "preprocessor_config.json",
             R"({"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2})");
  write_text(folder.path() / "video_preprocessor_config.json", "{}");
  EXPECT_TRUE(found().empty());
  write_text(folder.path() / "preprocessor_config.json", R"({"patch_size": 14})");
  write_text(folder.path() / "video_preprocessor_config.json", "not JSON");
  ASSERT_EQ(found().size(), 2U);
  expect_parts(found()[0], {"/preprocessor_config.json: patch_size", "the number 14", "16, as vision_config says"});
  expect_parts(found()[1], {"video_preprocessor_config.json: not valid JSON"});
}

}  // namespace
}  // namespace zoetrope::test
