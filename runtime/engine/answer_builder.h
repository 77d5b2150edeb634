// One running request on the leader: tokens to text, stop strings, events, and the times of its parts.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/engine/stop_matcher.h"
#include "runtime/text/detokenizer.h"

namespace zoetrope {

class AnswerBuilder {
 public:
  using Clock = std::chrono::steady_clock;

  AnswerBuilder(RequestId id, const ChatRequest& request, const Prompt& prompt, const Tokenizer& tokenizer,
                std::vector<std::int32_t> end_tokens, RequestCallbacks callbacks, Clock::time_point submitted_at);

  // On `members` ring members; `cached_tokens` of the prompt need not be computed.
  void started(int members, std::int64_t cached_tokens) {
    started_at_ = Clock::now();
    answer_.members = members;
    answer_.cached_tokens = cached_tokens;
  }
  void grown(int members) {
    answer_.members = members;
    ++answer_.growths;
  }
  struct VisualSeconds {
    double encode = 0, decode = 0, wait = 0, cpu = 0;
  };
  void encoded_for(const VisualSeconds& seconds, double part);  // this part of them is the request's
  void prefilled_to(std::int64_t tokens);

  // One drawn token. True when the answer has ended: an end token, or a stop string in the text.
  bool add(const Sampled& sampled);

  // The last event and the answer. `error` empty unless the request failed.
  void finish(FinishReason reason, std::string error);

 private:
  void emit(std::string text, const Sampled& sampled, bool last, FinishReason reason);

  RequestId id_;
  RequestCallbacks callbacks_;
  std::vector<std::int32_t> end_tokens_;  // empty when end tokens are ignored
  Detokenizer detokenizer_;
  StopMatcher stops_;
  Answer answer_;
  Clock::time_point submitted_at_;
  std::optional<Clock::time_point> started_at_, first_token_at_;
  double encode_seconds_ = 0;  // without waiting for frames
};

}  // namespace zoetrope
