// Every checkpoint and case of the golden folder, in both precisions: hidden states, vision outputs, routers, logits
// and the 32 greedy steps. Whatever checkpoints and cases are there are taken.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

#include "tests/golden/case_check.h"
#include "tests/golden/tally.h"
#include "tests/golden_folder.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory()) {
      out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Over all cases of a checkpoint chance evens out: distances from fp32 and tokens sent elsewhere are no more than those
// of the reference's own bf16. (The rule allows 1.5 times the distance.)
constexpr double kPooledRatio = 1.0;

void check_all(Precision precision) {
  const fs::path goldens = test::golden_folder();
  int cases = 0;
  for (const fs::path& checkpoint : folders_in(goldens / "cases")) {
    const std::string name = checkpoint.filename();
    double worst = 0, ours = 0, reference = 0, flips = 0, reference_flips = 0;
    for (const fs::path& folder : folders_in(checkpoint)) {
      const test::CaseResult result = test::check_case(goldens, name, folder.filename(), precision, {});
      EXPECT_GT(result.values_compared, 0) << folder;
      for (const std::string& failure : result.failures) {
        ADD_FAILURE() << name << '/' << folder.filename().string() << ": " << failure;
      }
      for (const std::string& miss : result.misses) {
        std::printf("  %s/%s misses the rule: %s\n", name.c_str(), folder.filename().c_str(), miss.c_str());
      }
      worst = std::max(worst, precision == Precision::kFp32 ? result.largest_fp32_error : result.largest_bf16_ratio);
      ours += result.bf16_squares;
      reference += result.reference_bf16_squares;
      ++cases;
      if (precision == Precision::kBf16) {
        ++test::Tally::instance().bf16_cases;
        test::Tally::instance().bf16_cases_missed += result.misses.empty() ? 0 : 1;
        flips += static_cast<double>(result.flips);
        reference_flips += static_cast<double>(result.reference_flips);
      }
    }
    if (precision == Precision::kFp32) {
      std::printf("  %s fp32: largest relative error %.2e (allowed 1e-4)\n", name.c_str(), worst);
    } else {
      std::printf(
          "  %s bf16: largest ratio of one tensor %.3f; all logits together %.3f of the reference's own distance\n",
          name.c_str(), worst, reference > 0 ? std::sqrt(ours / reference) : 0.0);
      EXPECT_LE(std::sqrt(ours), kPooledRatio * std::sqrt(reference)) << name << ": logits of all prompt rows";
      if (reference_flips > 0) {
        std::printf("  %s bf16: %.0f tokens sent to other experts than in fp32, the reference's bf16 sends %.0f\n",
                    name.c_str(), flips, reference_flips);
        EXPECT_LE(flips, kPooledRatio * reference_flips) << name << ": tokens sent to other experts";
      }
    }
  }
  EXPECT_GT(cases, 0) << "no cases in " << goldens;
}

// On a thread of their own: computing sets a thread's floating-point environment, and other suites read denormals.
TEST(GoldenCases, Fp32) { std::thread([] { check_all(Precision::kFp32); }).join(); }
TEST(GoldenCases, Bf16) { std::thread([] { check_all(Precision::kBf16); }).join(); }

// What is only described in the folder must describe what is there.
TEST(GoldenCases, MediaAndNoiseFiles) {
  const fs::path goldens = test::golden_folder();
  if (fs::exists(goldens / "media" / "media.json")) {
    const auto media = test::golden_json(goldens / "media" / "media.json").as_object();
    for (const char* kind : {"images", "videos"}) {
      for (const auto& entry : media.at(kind).as_array()) {
        EXPECT_TRUE(fs::exists(goldens / "media" / std::string(entry.at("name").as_string())))
            << entry.at("name").as_string();
      }
    }
  }
  for (const fs::path& checkpoint : folders_in(goldens / "cases")) {
    EXPECT_TRUE(test::golden_json(checkpoint / "noise.json").is_object());
  }
}

}  // namespace
}  // namespace zoetrope
