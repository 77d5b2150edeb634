#include "runtime/engine/answer_builder.h"

#include <algorithm>
#include <utility>

namespace zoetrope {
namespace {

double seconds_between(AnswerBuilder::Clock::time_point from, AnswerBuilder::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

AnswerBuilder::AnswerBuilder(RequestId id, const ChatRequest& request, const Prompt& prompt, const Tokenizer& tokenizer,
                             std::vector<std::int32_t> end_tokens, RequestCallbacks callbacks,
                             Clock::time_point submitted_at)
    : id_(id),
      callbacks_(std::move(callbacks)),
      end_tokens_(request.ignore_eos ? std::vector<std::int32_t>{} : std::move(end_tokens)),
      detokenizer_(tokenizer, /*skip_special=*/true),
      stops_(request.stop),
      submitted_at_(submitted_at) {
  answer_.prompt_tokens = static_cast<std::int64_t>(prompt.tokens.size());
  answer_.seed = request.sampling.seed;
  for (const Medium& medium : prompt.media) {
    answer_.media.push_back(medium.report);
  }
}

void AnswerBuilder::prefilled_to(std::int64_t tokens) {
  if (callbacks_.prefill_progress) {
    callbacks_.prefill_progress(tokens, answer_.prompt_tokens);
  }
}

void AnswerBuilder::encoded_for(const VisualSeconds& seconds, double part) {
  encode_seconds_ += seconds.encode * part;
  answer_.film_decode_seconds += seconds.decode * part;
  answer_.film_wait_seconds += seconds.wait * part;
  answer_.film_cpu_seconds += seconds.cpu * part;
}

void AnswerBuilder::emit(std::string text, const Sampled& sampled, bool last, FinishReason reason) {
  answer_.text += text;
  if (callbacks_.event) {
    callbacks_.event({id_, std::move(text), sampled, last, reason});
  }
}

bool AnswerBuilder::add(const Sampled& sampled) {
  if (!first_token_at_) {
    first_token_at_ = Clock::now();
  }
  answer_.tokens.push_back(sampled);
  if (std::find(end_tokens_.begin(), end_tokens_.end(), sampled.token) != end_tokens_.end()) {
    return true;
  }
  emit(stops_.add(detokenizer_.add(sampled.token)), sampled, false, FinishReason::kStop);
  return stops_.stopped();
}

void AnswerBuilder::finish(FinishReason reason, std::string error) {
  const auto now = Clock::now();
  std::string rest = stops_.stopped() ? "" : stops_.add(detokenizer_.finish()) + stops_.finish();
  emit(std::move(rest), answer_.tokens.empty() ? Sampled{} : answer_.tokens.back(), true, reason);
  answer_.reason = reason;
  answer_.error = std::move(error);
  answer_.queue_seconds = seconds_between(submitted_at_, started_at_.value_or(now));
  if (started_at_) {
    const double to_first = seconds_between(*started_at_, first_token_at_.value_or(now));
    answer_.encode_seconds = std::min(encode_seconds_, to_first);
    answer_.film_wait_seconds = std::min(answer_.film_wait_seconds, to_first - answer_.encode_seconds);
    answer_.prefill_seconds = to_first - answer_.encode_seconds - answer_.film_wait_seconds;
    answer_.decode_seconds = first_token_at_ ? seconds_between(*first_token_at_, now) : 0.0;
  }
  if (callbacks_.done) {
    callbacks_.done(std::move(answer_));
  }
}

}  // namespace zoetrope
