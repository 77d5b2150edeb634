// How many golden values were taken for comparison, file by file, so that golden_test can say it and can refuse a file
// that nobody read. The readers of golden files count; what they hand out is compared by the tests that ask for it.
#pragma once

#include <boost/json.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>

namespace zoetrope::test {

struct Tally {
  std::mutex mutex;
  std::map<std::filesystem::path, std::int64_t> values;  // by canonical path
  int bf16_cases = 0;         // cases compared in bf16
  int bf16_cases_missed = 0;  // those of them that miss the plain bf16 rule (case_check.h)

  static Tally& instance() {
    static Tally tally;
    return tally;
  }
};

inline void compared(const std::filesystem::path& file, std::int64_t values) {
  Tally& tally = Tally::instance();
  const auto path = std::filesystem::weakly_canonical(file);
  const std::lock_guard lock(tally.mutex);
  tally.values[path] += values;
}

// Numbers, texts and truth values in a JSON value.
inline std::int64_t leaves(const boost::json::value& value) {
  std::int64_t count = value.is_object() || value.is_array() || value.is_null() ? 0 : 1;
  if (value.is_array()) {
    for (const auto& element : value.get_array()) {
      count += leaves(element);
    }
  } else if (value.is_object()) {
    for (const auto& member : value.get_object()) {
      count += leaves(member.value());
    }
  }
  return count;
}

// A golden JSON file, counted.
inline boost::json::value golden_json(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    throw std::runtime_error("cannot open " + file.string());
  }
  std::ostringstream text;
  text << in.rdbuf();
  boost::json::value value = boost::json::parse(text.str());
  compared(file, leaves(value));
  return value;
}

}  // namespace zoetrope::test
