// How many golden values were compared, file by file, so that golden_test can say it and can refuse a file nobody read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>

namespace zoetrope::test {

struct Tally {
  std::mutex mutex;
  std::map<std::filesystem::path, std::int64_t> values;  // by canonical path

  static Tally& instance() {
    static Tally tally;
    return tally;
  }
};

// `values` golden values of `file` were held against ours.
inline void compared(const std::filesystem::path& file, std::int64_t values) {
  Tally& tally = Tally::instance();
  const auto path = std::filesystem::weakly_canonical(file);
  const std::lock_guard lock(tally.mutex);
  tally.values[path] += values;
}

}  // namespace zoetrope::test
