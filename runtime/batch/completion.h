// A finished request as an OpenAI chat completion, with what was really used of its media beside the usage.
#pragma once

#include <string>

#include "runtime/engine/engine.h"
#include "runtime/json/json.h"
#include "runtime/text/tokenizer.h"

namespace zoetrope {

struct CompletionContext {
  std::string model;                     // name shown in the answer
  std::string fingerprint;               // Engine::fingerprint()
  const Tokenizer* tokenizer = nullptr;  // texts of log-probabilities
  bool thinking = false;                 // split reasoning from content at </think>
};

// {"id", "object": "chat.completion", "choices": [...], "usage": {...}, "system_fingerprint", "seed", "media": [...],
// "timing": {...}}
json::Object completion(const std::string& id, const Answer& answer, bool logprobs, const CompletionContext& context);

json::Object media_report(const MediaReport& report);

std::string_view finish_reason(FinishReason reason);

}  // namespace zoetrope
