// One question as a user asks it: the body of an OpenAI chat completion, read strictly, with our media options.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernels/sample.h"
#include "runtime/checkpoint/generation_config.h"
#include "runtime/json/json.h"
#include "runtime/media/processor.h"
#include "runtime/text/chat_template.h"

namespace zoetrope {

struct ChatRequest {
  std::string name;                         // custom_id, or "ask": for messages
  json::Array
      messages;  // as the template reads them: OpenAI's image_url/video_url parts rewritten to image/video items
  std::optional<json::Array> tools;
  RenderOptions render;
  VideoOptions video;                       // mm_processor_kwargs / media options for every video of the request
  ImageOptions image;
  SamplingSettings sampling;                // defaults of generation_config.json filled in
  bool seed_given = false;                  // a request without a seed is given one and told which
  std::optional<std::int64_t> new_tokens_max;  // unset: the rest of the context
  std::vector<std::string> stop;            // up to 4 stop strings
  bool logprobs = false;
  bool ignore_eos = false;
  std::filesystem::path media_base;         // relative media paths start here
};

// Reads the body of a chat completion. Strict: an unknown field is refused with the nearest name, every value is
// checked. `defaults` fills in what the request leaves open; a missing seed is drawn from the operating system.
ChatRequest read_chat_request(const json::Fields& body, std::string name, const std::filesystem::path& media_base,
                              const GenerationConfig& defaults);

// Options of one video: the request's, overridden by fields of its content item.
VideoOptions video_options_of(const json::Fields& item, VideoOptions base);
ImageOptions image_options_of(const json::Fields& item, ImageOptions base);

}  // namespace zoetrope
