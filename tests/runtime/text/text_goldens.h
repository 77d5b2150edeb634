// The golden rows of the text folder and the published tokenizer, read once per test program.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/json/json.h"
#include "runtime/text/tokenizer.h"
#include "tests/golden/tally.h"
#include "tests/golden_folder.h"

namespace zoetrope::test {

// The published vocabulary: beside the goldens, or among the project's own smaller set.
inline std::filesystem::path published_tokenizer_folder() {
  return beside_goldens("reference/tokenizer");
}

inline const Tokenizer& published_tokenizer() {
  static const Tokenizer tokenizer = Tokenizer::load(published_tokenizer_folder());
  return tokenizer;
}

// The rows of goldens/text/<name>; the file says how many there are.
inline json::Value golden_text(const std::string& name) {
  const auto file = golden_folder() / "text" / name;
  json::Value value = json::parse_file(file, Radius::kStartup);
  compared(file, leaves(value));
  return value;
}

inline std::vector<TokenId> ids_of(const json::Value& list) {
  std::vector<TokenId> ids;
  for (const json::Value& id : list.as_array()) {
    ids.push_back(static_cast<TokenId>(id.as_int64()));
  }
  return ids;
}

// Checks that the file has as many rows as it says, and more than none.
inline const json::Array& rows_of(const json::Value& file) {
  const json::Array& rows = file.as_object().at("rows").as_array();
  EXPECT_GT(rows.size(), 0u);
  EXPECT_EQ(static_cast<std::int64_t>(rows.size()), file.as_object().at("count").as_int64());
  return rows;
}

}  // namespace zoetrope::test
