#include "runtime/text/detokenizer.h"

#include "runtime/text/utf8.h"

namespace zoetrope {

std::string Detokenizer::add(TokenId id) {
  std::string text;
  if (skip_special_ && tokenizer_->is_special(id)) {
    return text;
  }
  held_ += tokenizer_->token_bytes(id);
  held_.erase(0, append_repaired(text, held_, false));
  return text;
}

std::string Detokenizer::finish() {
  std::string text;
  append_repaired(text, held_, true);
  held_.clear();
  return text;
}

}  // namespace zoetrope
