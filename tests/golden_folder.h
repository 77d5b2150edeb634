// Where golden files lie: the folder named by ZOETROPE_GOLDENS, else the project's own set.
#pragma once

#include <cstdlib>
#include <filesystem>

#include "tests/source_folder.h"

namespace zoetrope::test {

inline std::filesystem::path golden_folder() {
  if (const char* named = std::getenv("ZOETROPE_GOLDENS"); named != nullptr && *named != '\0') {
    return named;
  }
  return source_folder() / "tests" / "data" / "goldens";
}

// What golden files name outside their folder ("media/real_video_1.mp4", "reference/tokenizer"): beside it, else in the
// project's own set.
inline std::filesystem::path beside_goldens(const std::filesystem::path& label) {
  if (const auto beside = golden_folder() / ".." / label; std::filesystem::exists(beside)) {
    return beside;
  }
  return source_folder() / "tests" / "data" / label;
}

}  // namespace zoetrope::test
