// Tokens to text as they come, never a part of a code point.
#pragma once

#include <string>

#include "runtime/text/tokenizer.h"

namespace zoetrope {

// All add()s and the finish() together are Tokenizer::decode of all ids. The tokenizer must outlive it.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special) : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  std::string add(TokenId id);  // the text that is certain now, perhaps none
  std::string finish();         // what was left unfinished, as U+FFFD; ready for a new text afterwards

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string held_;  // the beginning of a code point, at most 3 bytes
};

}  // namespace zoetrope
