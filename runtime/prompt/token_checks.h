// Whether a tokenizer and a configuration speak of the same tokens.
#pragma once

#include "runtime/checkpoint/config.h"
#include "runtime/text/tokenizer.h"

namespace zoetrope {

// Error(kStartup) when a token's id lies beyond the vocabulary of the model, or when the tokens that stand for pictures
// and films have other ids in the tokenizer than in the configuration.
void check_tokens(const Tokenizer& tokenizer, const ModelConfig& config);

}  // namespace zoetrope
