// golden_test: holds the program against a folder of golden files (ZOETROPE_GOLDENS, or the project's own set). Takes
// whatever checkpoints, cases and rows are there, prints how many values were compared, and fails on a file that nobody
// read.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/golden/tally.h"
#include "tests/golden_folder.h"

namespace {

namespace fs = std::filesystem;

// The suites that read golden files. Parts that a folder does not have are left out, and said.
const std::vector<std::pair<std::string, std::string>>& parts() {
  static const std::vector<std::pair<std::string, std::string>> all{
      {"cases", "GoldenCases.*:PromptGolden.EveryCase*:ChatTemplate.RendersTheGoldenPrompts*"},
      {"preprocess",
       "Still.EveryGolden*:Resize.EqualsTheReference*:Patches.*:FilmReader.Golden*:FilmReader.RealFilm*:Plan.Every*"},
      {"text",
       "Tokenizer.*EveryGolden*:Tokenizer.GivesTheIds*:Detokenizer.FollowsEveryGolden*:ChatTemplate.RendersEveryGolden*"
       ":ChatTemplate.LeavesTheLast*"},
      {"sampling", "SamplingDistribution.IsThatOfTheLibrary"},
      {"rotary", "PromptGolden.Positions*:RotaryFrequencies.*:RotaryTable.*:VisionRotaryTable.*"},
  };
  return all;
}

// Golden files below `folder` that no test has read.
int unread_files(const fs::path& folder) {
  static const std::set<std::string> described{"README.md", "summary.md", "check_reference.json"};
  int unread = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const fs::path relative = fs::relative(entry.path(), folder);
    const std::string top = relative.begin()->string();
    const std::string extension = entry.path().extension();
    if (!entry.is_regular_file() || top == "tools" || top == "checkpoints" ||
        described.contains(entry.path().filename()) || (extension != ".json" && extension != ".safetensors")) {
      continue;
    }
    if (!zoetrope::test::Tally::instance().values.contains(fs::weakly_canonical(entry.path()))) {
      std::printf("golden_test: nobody read %s\n", relative.c_str());
      ++unread;
    }
  }
  return unread;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const fs::path folder = zoetrope::test::golden_folder();
  if (!fs::is_directory(folder)) {
    std::printf("golden_test: found no folder %s, expected golden files; set ZOETROPE_GOLDENS to their folder\n",
                folder.c_str());
    return 1;
  }
  std::string filter;
  for (const auto& [part, suites] : parts()) {
    if (fs::exists(folder / part)) {
      filter += suites + ":";
    } else {
      std::printf("golden_test: %s has no folder %s: left out\n", folder.c_str(), part.c_str());
    }
  }
  if (testing::GTEST_FLAG(filter) == "*") {
    testing::GTEST_FLAG(filter) = filter;
  }
  const int failed = RUN_ALL_TESTS();
  const int unread = unread_files(folder);
  std::int64_t values = 0;
  std::size_t files = 0;
  for (const auto& [file, count] : zoetrope::test::Tally::instance().values) {
    values += count;
    files += count > 0 ? 1 : 0;
  }
  std::printf("golden_test: %lld values of %zu golden files compared, %d files unread, %s\n",
              static_cast<long long>(values), files, unread,
              failed == 0 && unread == 0 && values > 0 ? "none failed" : "FAILED");
  const auto& tally = zoetrope::test::Tally::instance();
  if (tally.bf16_cases_missed > 0) {
    std::printf(
        "golden_test: %d of %d bf16 cases miss the plain rule (last logits within 1.5 times the reference's distance, "
        "every clear token "
        "equal); all are mixtures of experts and stand above\n",
        tally.bf16_cases_missed, tally.bf16_cases);
  }
  return failed != 0 || unread != 0 || values == 0 ? 1 : 0;
}
