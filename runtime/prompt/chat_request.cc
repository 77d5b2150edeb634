#include "runtime/prompt/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "runtime/prompt/nearest_name.h"

namespace zoetrope {
namespace {

using json::Fields;

constexpr std::int64_t kCountMax = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kTopKMax = 1'000'000'000;  // as sample() takes it
constexpr double kTemperatureMin = 1e-30;         // below, logits divided by it leave the range of a float
constexpr std::int64_t kPixelsMax = std::int64_t{1} << 46;

constexpr std::string_view kBodyFields[] = {"model",
                                            "messages",
                                            "tools",
                                            "tool_choice",
                                            "max_tokens",
                                            "max_completion_tokens",
                                            "temperature",
                                            "top_p",
                                            "top_k",
                                            "min_p",
                                            "repetition_penalty",
                                            "presence_penalty",
                                            "frequency_penalty",
                                            "seed",
                                            "stop",
                                            "logprobs",
                                            "top_logprobs",
                                            "n",
                                            "stream",
                                            "response_format",
                                            "ignore_eos",
                                            "chat_template_kwargs",
                                            "mm_processor_kwargs",
                                            "user",
                                            "metadata",
                                            "add_generation_prompt",
                                            "continue_final_message"};
constexpr std::string_view kVideoFields[] = {"fps",        "num_frames",   "max_frames",   "min_pixels",
                                             "max_pixels", "total_pixels", "video_start",  "video_end",
                                             "timestamps", "rotate",       "frame_indices"};
constexpr std::string_view kTemplateFields[] = {"add_vision_id"};

// Refuses the first field that is not in `known`.
void only_known(const Fields& fields, std::span<const std::string_view> known) {
  for (const auto& member : fields.object()) {
    const std::string_view key = member.key();
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      const std::string nearest = nearest_name(key, known);
      fields.refuse(key, "a field that is not known here",
                    nearest.empty() ? "only known fields" : fmt::format("perhaps {}", zoetrope::quoted(nearest)),
                    "correct or remove it");
    }
  }
}

double number_between(const Fields& fields, std::string_view key, double otherwise, double at_least, double at_most) {
  const double value = fields.number_or(key, otherwise);
  if (!(value >= at_least && value <= at_most)) {
    fields.refuse(key, fmt::format("{}", value), fmt::format("a number from {} to {}", at_least, at_most),
                  "change the value");
  }
  return value;
}

double positive(const Fields& fields, std::string_view key, double otherwise) {
  const double value = fields.number_or(key, otherwise);
  if (!(value > 0 && std::isfinite(value))) {
    fields.refuse(key, fmt::format("{}", value), "a number above 0", "change the value");
  }
  return value;
}

template <typename T>
void take_integer(const Fields& fields, std::string_view key, std::optional<T>& into, std::int64_t at_least,
                  std::int64_t at_most) {
  if (fields.has(key)) {
    into = static_cast<T>(fields.integer(key, at_least, at_most));
  }
}

void take_number(const Fields& fields, std::string_view key, std::optional<double>& into, double at_least) {
  if (fields.has(key)) {
    into = number_between(fields, key, 0, at_least, 1e9);
  }
}

// {"url": "..."} or, as some clients send it, the reference itself.
std::string url_of(const Fields& item, std::string_view key) {
  const json::Value* value = item.find(key);
  if (value != nullptr && value->is_string()) {
    return std::string(value->get_string());
  }
  return item.child(key).text("url");
}

// OpenAI's image_url and video_url parts become the template's image and video items; options stay beside them.
json::Object rewritten_part(const Fields& part) {
  const std::string type = part.text("type");
  json::Object out;
  if (type == "text") {
    static constexpr std::string_view known[] = {"type", "text"};
    only_known(part, known);
    out["type"] = "text";
    out["text"] = part.text("text");
    return out;
  }
  const bool image = type == "image_url" || type == "image";
  if (!image && type != "video_url" && type != "video") {
    part.refuse("type", zoetrope::quoted(type), "'text', 'image_url' or 'video_url' (also 'image', 'video')",
                "send only text, pictures and films");
  }
  const bool url_form = type.ends_with("_url");
  const std::string_view key = image ? "image" : "video";
  out["type"] = json::Value(std::string(key));
  if (url_form) {
    out[key] = json::Value(url_of(part, type));
  } else if (image || !part.has("video") || part.find("video")->is_string()) {
    out[key] = json::Value(part.text(key));
  } else {
    out[key] = part.array(key);
  }
  const auto copy_options = [&](const Fields& from) {
    for (const auto& member : from.object()) {
      const std::string_view name = member.key();
      if (name == "type" || name == type || name == key || name == "url" || name == "detail" || name == "uuid") {
        continue;
      }
      const bool known =
          image ? name == "min_pixels" || name == "max_pixels"
                : std::find(std::begin(kVideoFields), std::end(kVideoFields), name) != std::end(kVideoFields);
      if (!known) {
        from.refuse(name, "an option that is not known for this medium",
                    image ? "min_pixels or max_pixels" : fmt::format("one of {}", fmt::join(kVideoFields, ", ")),
                    "correct or remove it");
      }
      out[name] = member.value();
    }
  };
  copy_options(part);
  if (url_form && part.find(type)->is_object()) {
    copy_options(part.child(type));
  }
  return out;
}

json::Array rewritten_messages(const Fields& body) {
  json::Array out;
  const json::Array& messages = body.array("messages");
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Fields message(messages[i], body.source(), fmt::format("messages[{}]", i));
    static constexpr std::string_view known[] = {"role",      "content", "tool_calls",   "reasoning_content",
                                                 "reasoning", "name",    "tool_call_id", "refusal"};
    only_known(message, known);
    json::Object copy = message.object();
    const std::string role = message.text("role");
    static constexpr std::string_view roles[] = {"system", "developer", "user", "assistant", "tool"};
    if (std::find(std::begin(roles), std::end(roles), role) == std::end(roles)) {
      message.refuse("role", zoetrope::quoted(role), "'system', 'developer', 'user', 'assistant' or 'tool'",
                     "change the role");
    }
    if (role == "developer") {
      copy["role"] = "system";
    }
    if (copy.contains("content") && copy["content"].is_null() && role == "assistant" && message.has("tool_calls")) {
      copy["content"] = "";
    }
    if (message.has("content") && !message.find("content")->is_string() && !message.find("content")->is_array()) {
      message.refuse("content", json::described(*message.find("content")), "a text or a list of parts",
                     "write the content as a text, or as [{\"type\": \"text\", \"text\": ...}, ...]");
    }
    if (message.has("content") && message.find("content")->is_array()) {
      json::Array parts;
      const json::Array& content = message.array("content");
      for (std::size_t p = 0; p < content.size(); ++p) {
        parts.push_back(
            rewritten_part(Fields(content[p], body.source(), fmt::format("messages[{}].content[{}]", i, p))));
      }
      copy["content"] = std::move(parts);
    }
    out.push_back(std::move(copy));
  }
  return out;
}

void read_sampling(const Fields& body, const GenerationConfig& defaults, ChatRequest& request) {
  SamplingSettings& s = request.sampling;
  s.temperature = number_between(body, "temperature", defaults.sample ? defaults.temperature : 0.0, 0, 2);
  if (s.temperature > 0 && s.temperature < kTemperatureMin) {
    body.refuse("temperature", fmt::format("{}", s.temperature),
                fmt::format("0 or a number from {} to 2", kTemperatureMin), "use 0 for greedy decoding");
  }
  s.top_p = number_between(body, "top_p", defaults.top_p, 0, 1);
  if (s.top_p == 0) {
    body.refuse("top_p", "0", "a number above 0 and up to 1", "use temperature 0 for greedy decoding");
  }
  s.top_k = static_cast<int>(body.integer_or("top_k", defaults.top_k, -1, kTopKMax));
  s.top_k = std::max(s.top_k, 0);  // -1 is how other servers write "all"
  s.min_p = number_between(body, "min_p", defaults.min_p, 0, 1);
  s.repetition_penalty =
      number_between(body, "repetition_penalty", defaults.repetition_penalty, 1e-3, 1e3);  // as sample() takes it
  s.presence_penalty = number_between(body, "presence_penalty", 0, -2, 2);
  s.frequency_penalty = number_between(body, "frequency_penalty", 0, -2, 2);
  request.seed_given = body.has("seed");
  s.seed = request.seed_given
               ? static_cast<std::uint64_t>(body.integer("seed", std::numeric_limits<std::int64_t>::min(),
                                                         std::numeric_limits<std::int64_t>::max()))
               : (static_cast<std::uint64_t>(std::random_device{}()) << 21) ^ std::random_device{}();
  request.logprobs = body.boolean_or("logprobs", false);
  s.top_logprobs = static_cast<int>(body.integer_or("top_logprobs", 0, 0, 20));
  if (s.top_logprobs > 0 && !request.logprobs) {
    body.refuse("top_logprobs", fmt::format("{} without logprobs", s.top_logprobs), "logprobs to be true as well",
                "add \"logprobs\": true");
  }
}

void read_stop(const Fields& body, ChatRequest& request) {
  if (!body.has("stop")) {
    return;
  }
  if (body.find("stop")->is_string()) {
    request.stop = {body.text("stop")};
    return;
  }
  for (const json::Value& stop : body.array("stop")) {
    if (!stop.is_string() || stop.get_string().empty() || request.stop.size() == 4) {
      body.refuse("stop", stop.is_string() && !stop.get_string().empty() ? "more than 4 texts" : json::described(stop),
                  "a text or a list of up to 4 non-empty texts", "shorten the list");
    }
    request.stop.emplace_back(stop.get_string());
  }
}

// What this runtime cannot do is refused by name instead of being left out of the answer.
void refuse_unsupported(const Fields& body) {
  body.integer_or("n", 1, 1, 1);
  if (body.boolean_or("stream", false)) {
    body.refuse("stream", "true", "false (a batch line is answered in one piece)", "remove the field");
  }
  if (body.has("response_format") && body.child("response_format").text("type") != "text") {
    body.refuse("response_format.type", zoetrope::quoted(body.child("response_format").text("type")), "'text'",
                "ask for the form in the prompt");
  }
  if (body.has("tool_choice")) {
    const json::Value& choice = *body.find("tool_choice");
    if (!choice.is_string() || (choice.get_string() != "auto" && choice.get_string() != "none")) {
      body.refuse("tool_choice", json::described(choice), "'auto' or 'none'", "remove the field or use 'auto'");
    }
  }
}

}  // namespace

VideoOptions video_options_of(const Fields& item, VideoOptions base) {
  VideoOptions o = std::move(base);
  if (item.has("fps")) {
    o.fps = positive(item, "fps", 0);
    o.num_frames.reset();  // the nearer one rules: fps and num_frames exclude each other
  }
  if (item.has("num_frames")) {
    take_integer(item, "num_frames", o.num_frames, 1, kCountMax);
    if (item.has("fps")) {
      item.refuse("num_frames", "num_frames beside fps", "one of the two", "remove one");
    }
    o.fps.reset();
  }
  take_integer(item, "max_frames", o.max_frames, 1, kCountMax);
  take_integer(item, "min_pixels", o.min_pixels, 1, kPixelsMax);
  take_integer(item, "max_pixels", o.max_pixels, 1, kPixelsMax);
  take_integer(item, "total_pixels", o.total_pixels, 1, kPixelsMax);
  take_number(item, "video_start", o.video_start, 0);
  take_number(item, "video_end", o.video_end, 0);
  const json::Value* times = item.find("timestamps");
  if (item.has("timestamps") && !times->is_string() &&
      !(times->is_array() && item.has("video") && item.find("video")->is_array())) {
    item.refuse(
        "timestamps", json::described(*times),
        "'true' (each frame's own time) or 'reference' (index / fps); a list of seconds beside a list of pictures",
        "change the value");
  }
  if (item.has("timestamps") && times->is_string()) {
    const std::string kind = item.text("timestamps");
    if (kind != "reference" && kind != "true") {
      item.refuse("timestamps", zoetrope::quoted(kind), "'true' (each frame's own time) or 'reference' (index / fps)",
                  "change the value");
    }
    o.reference_timestamps = kind == "reference";
  }
  o.rotate = item.boolean_or("rotate", o.rotate);
  if (item.has("frame_indices")) {
    o.frame_indices.emplace();
    for (const json::Value& index : item.array("frame_indices")) {
      if (!index.is_int64() || index.get_int64() < 0) {
        item.refuse("frame_indices", json::described(index), "whole numbers from 0", "change the list");
      }
      o.frame_indices->push_back(index.get_int64());
    }
  }
  return o;
}

ImageOptions image_options_of(const Fields& item, ImageOptions base) {
  take_integer(item, "min_pixels", base.min_pixels, 1, kPixelsMax);
  take_integer(item, "max_pixels", base.max_pixels, 1, kPixelsMax);
  return base;
}

ChatRequest read_chat_request(const Fields& body, std::string name, const std::filesystem::path& media_base,
                              const GenerationConfig& defaults) {
  only_known(body, kBodyFields);
  refuse_unsupported(body);
  ChatRequest request;
  request.name = std::move(name);
  request.media_base = media_base;
  request.messages = rewritten_messages(body);
  if (body.has("tools") && !(body.find("tool_choice") != nullptr && *body.find("tool_choice") == "none")) {
    request.tools = body.array("tools");
  }
  request.render.add_generation_prompt = body.boolean_or("add_generation_prompt", true);
  request.render.continue_final_message = body.boolean_or("continue_final_message", false);
  if (body.has("chat_template_kwargs")) {
    const Fields kwargs = body.child("chat_template_kwargs");
    only_known(kwargs, kTemplateFields);
    request.render.add_vision_id = kwargs.boolean_or("add_vision_id", false);
  }
  if (body.has("mm_processor_kwargs")) {
    const Fields kwargs = body.child("mm_processor_kwargs");
    only_known(kwargs, kVideoFields);
    request.video = video_options_of(kwargs, {});
    // Limits of one picture as well as of one frame.
    request.image = image_options_of(kwargs, {});
  }
  read_sampling(body, defaults, request);
  read_stop(body, request);
  if (body.has("max_tokens") && body.has("max_completion_tokens")) {
    body.refuse("max_tokens", "max_tokens beside max_completion_tokens", "one of the two",
                "remove max_tokens, the older name");
  }
  take_integer(body, "max_tokens", request.new_tokens_max, 1, kCountMax);
  take_integer(body, "max_completion_tokens", request.new_tokens_max, 1, kCountMax);
  request.ignore_eos = body.boolean_or("ignore_eos", false);
  return request;
}

}  // namespace zoetrope
