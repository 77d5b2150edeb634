// Any bytes as JSON: parsed or refused with an Error. What was parsed is written the way Python writes it, and that
// text must read back as the same text. A value that looks like a conversation is rendered by both templates.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "monitoring/check.h"
#include "runtime/json/json.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/python_json.h"
#include "runtime/text/utf8.h"

namespace zoetrope {
namespace {

void render(const json::Array& messages, const json::Array* tools, bool flag) {
  for (const Edition edition : {Edition::kInstruct, Edition::kThinking}) {
    for (const bool continued : {false, true}) {
      try {
        const auto pieces = ChatTemplate(edition).render(
            messages, tools,
            {.add_generation_prompt = !continued, .add_vision_id = flag, .continue_final_message = continued});
        check(!continued || !pieces.empty(), "a continued message is gone");
        check(is_valid_utf8(flat_text(pieces)), "the prompt is not UTF-8");
      } catch (const Error& error) {
        check(error.radius() == Radius::kRequest, "a conversation broke more than its request");
        check(is_valid_utf8(error.what()), "the message is not UTF-8");
      }
    }
  }
}

void run(std::string_view text) {
  json::Value value;
  try {
    value = json::parse(text, {"fuzz", Radius::kRequest});
  } catch (const Error& error) {
    check(error.radius() == Radius::kRequest, "the text broke more than its request");
    check(is_valid_utf8(error.what()), "the message is not UTF-8");
    return;
  }
  const std::string written = to_python_json(value);
  check(to_python_json(json::parse(written, {"written", Radius::kStartup})) == written,
        "written JSON reads differently");
  if (const json::Array* messages = value.if_array()) {
    render(*messages, messages, text.size() % 2 == 0);
  }
}

}  // namespace
}  // namespace zoetrope

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  zoetrope::run(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
