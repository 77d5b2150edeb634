// Where golden files lie: ZOETROPE_GOLDENS, else the shared folder beside the checkout, else the project's own smaller set.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace zoetrope::test {

inline std::filesystem::path golden_folder() {
  if (const char* named = std::getenv("ZOETROPE_GOLDENS"); named != nullptr && *named != '\0') {
    return named;
  }
  const std::filesystem::path source = ZOETROPE_SOURCE_DIR;
  if (const auto shared = source / ".." / "shared" / "goldens"; std::filesystem::exists(shared)) {
    return shared;
  }
  return source / "tests" / "data" / "goldens";
}

}  // namespace zoetrope::test
