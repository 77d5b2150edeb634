#include "runtime/batch/completion.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace zoetrope {
namespace {

json::Object logprob_of(const TokenLogprob& entry, const Tokenizer& tokenizer) {
  const std::string_view bytes = tokenizer.token_bytes(entry.token);
  const std::int32_t id[] = {entry.token};
  json::Object out;
  out["token"] = tokenizer.decode(id, /*skip_special=*/false);
  // JSON has no minus infinity: a token that cannot be drawn is given OpenAI's floor.
  out["logprob"] = std::isfinite(entry.logprob) ? static_cast<double>(entry.logprob) : -9999.0;
  json::Array values;
  for (const char c : bytes) {
    values.push_back(static_cast<unsigned char>(c));
  }
  out["bytes"] = std::move(values);
  return out;
}

json::Value logprobs_of(const Answer& answer, const Tokenizer& tokenizer) {
  json::Array content;
  for (const Sampled& sampled : answer.tokens) {
    json::Object entry = logprob_of({sampled.token, sampled.logprob}, tokenizer);
    json::Array top;
    for (const TokenLogprob& alternative : sampled.top) {
      top.push_back(logprob_of(alternative, tokenizer));
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return json::Object{{"content", std::move(content)}};
}

std::string without_newlines_around(std::string text) {
  const auto first = text.find_first_not_of('\n');
  const auto last = text.find_last_not_of('\n');
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

json::Object message_of(const Answer& answer, bool thinking) {
  json::Object message{{"role", "assistant"}, {"content", answer.text}, {"refusal", nullptr}};
  static constexpr std::string_view kEnd = "</think>";
  if (thinking) {
    const auto at = answer.text.find(kEnd);
    const std::string reasoning = without_newlines_around(answer.text.substr(0, at));
    message["reasoning_content"] = reasoning;
    message["content"] = at == std::string::npos ? "" : without_newlines_around(answer.text.substr(at + kEnd.size()));
  }
  return message;
}

json::Object usage_of(const Answer& answer) {
  const auto completion_tokens = static_cast<std::int64_t>(answer.tokens.size());
  std::int64_t image = 0, video = 0;
  for (const MediaReport& report : answer.media) {
    (report.kind == "image" ? image : video) += report.tokens;
  }
  return {{"prompt_tokens", answer.prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", answer.prompt_tokens + completion_tokens},
          {"prompt_tokens_details",
           json::Object{{"cached_tokens", answer.cached_tokens}, {"image_tokens", image}, {"video_tokens", video}}}};
}

}  // namespace

std::string_view finish_reason(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      return "abort";
  }
  return "abort";
}

json::Object media_report(const MediaReport& report) {
  json::Array notes;
  for (const std::string& note : report.notes) {
    notes.push_back(json::Value(note));
  }
  json::Object out{{"kind", report.kind}, {"file", report.file}};
  if (report.kind != "image") {
    out["source_frames"] = report.source_frames;
    out["source_fps"] = report.source_fps;
    out["frames_used"] = report.frames_used;
    out["fps_used"] = report.fps_used;
    out["seconds"] = json::Array{report.seconds_first, report.seconds_last};
  }
  out["source_size"] = json::Array{report.source_width, report.source_height};
  out["size_used"] = json::Array{report.resized_width, report.resized_height};
  out["tokens"] = report.tokens;
  out["notes"] = std::move(notes);
  return out;
}

json::Object completion(const std::string& id, const Answer& answer, bool logprobs, const CompletionContext& context) {
  json::Object choice{{"index", 0}, {"message", message_of(answer, context.thinking)}};
  choice["logprobs"] = logprobs ? logprobs_of(answer, *context.tokenizer) : json::Value(nullptr);
  choice["finish_reason"] = json::Value(std::string(finish_reason(answer.reason)));
  json::Array media;
  for (const MediaReport& report : answer.media) {
    media.push_back(media_report(report));
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  json::Object out{{"id", id}, {"object", "chat.completion"}};
  out["created"] = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  out["model"] = context.model;
  out["choices"] = json::Array{std::move(choice)};
  out["usage"] = usage_of(answer);
  out["system_fingerprint"] = context.fingerprint;
  out["seed"] = answer.seed;
  out["media"] = std::move(media);
  out["timing"] = json::Object{{"queue_s", answer.queue_seconds},
                               {"encode_s", answer.encode_seconds},
                               {"prefill_s", answer.prefill_seconds},
                               {"decode_s", answer.decode_seconds},
                               {"film_decode_s", answer.film_decode_seconds},
                               {"film_wait_s", answer.film_wait_seconds}};
  return out;
}

}  // namespace zoetrope
