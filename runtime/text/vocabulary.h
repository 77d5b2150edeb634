// What a checkpoint's tokenizer files say, read and checked: tokenizer.json, or vocab.json with merges.txt and
// tokenizer_config.json. A setting that would change an id and that we do not have is refused.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/text/byte_pairs.h"

namespace zoetrope {

struct AddedToken {
  TokenId id = 0;
  std::string surface;   // "<|im_end|>"
  bool special = false;  // dropped from decoded answers
};

struct Vocabulary {
  std::vector<std::string> bytes;        // by id: what the token stands for; empty for unused ids and added tokens
  std::array<TokenId, 256> byte_tokens;  // the tokens of single bytes
  std::vector<BytePairs::Merge> merges;  // in the order they were learned, no pair twice
  std::vector<AddedToken> added;         // ids and surfaces not used otherwise
};

// Throws Error(kStartup) that names file and field.
Vocabulary load_vocabulary(const std::filesystem::path& folder);

}  // namespace zoetrope
