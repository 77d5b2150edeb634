#include "runtime/text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "monitoring/error.h"
#include "runtime/text/template_renderer.h"
#include "runtime/text/utf8.h"

namespace zoetrope {
namespace {

constexpr std::string_view kTail = "<|im_end|>\n";  // what the template writes after the last message

[[noreturn]] void cannot_continue(std::string found, std::string expected) {
  refuse(Radius::kRequest, {"continue_final_message", std::move(found), std::move(expected),
                            "end the conversation with the text to be continued, or leave continue_final_message out"});
}

// What Python's str.strip() takes away.
bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// The text without blanks at its beginning (lstrip) and the length of it without those at its end (strip).
struct Stripped {
  std::string_view left;
  std::size_t both_bytes;
};

Stripped stripped(std::string_view text) {
  std::size_t first = text.size(), end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (!is_python_space(c.value)) {
      first = std::min(first, at);
      end = at + c.bytes;
    }
    at += c.bytes;
  }
  return {text.substr(first), end > first ? end - first : 0};
}

// The text to be continued: the content, or the last text item of a list.
std::string_view final_text(const json::Value& message) {
  const json::Value* content = message.get_object().if_contains("content");
  if (content != nullptr && content->is_string()) {
    return content->get_string();
  }
  if (content != nullptr && content->is_array()) {
    const json::Array& items = content->get_array();
    for (auto item = items.rbegin(); item != items.rend(); ++item) {
      const json::Value* text = item->is_object() ? item->get_object().if_contains("text") : nullptr;
      if (text != nullptr && text->is_string()) {
        return text->get_string();
      }
      if (text != nullptr) {
        cannot_continue(json::described(*text), "a text in the last message");
      }
    }
  }
  cannot_continue("no text in the last message", "a last message with text");
}

// The pieces cut after `bytes` of their rendered string; the cut must not divide a control token or a picture.
std::vector<Piece> cut_after(std::vector<Piece> pieces, std::size_t bytes) {
  std::vector<Piece> out;
  for (Piece& piece : pieces) {
    const std::size_t size = flat_text(piece).size();
    if (bytes == 0) {
      break;
    }
    if (size > bytes) {
      if (piece.kind != Piece::Kind::kText) {
        cannot_continue(fmt::format("a last message that ends inside {}", flat_text(piece)), "one that ends in text");
      }
      piece.text.resize(bytes);
    }
    bytes -= std::min(bytes, size);
    out.push_back(std::move(piece));
  }
  return out;
}

// Where `part` stands in `text` for the last time, in time linear in both (rfind() is quadratic); npos: nowhere.
std::size_t last_of(std::string_view text, std::string_view part) {
  const std::string backwards(text.rbegin(), text.rend()), wanted(part.rbegin(), part.rend());
  const void* found = ::memmem(backwards.data(), backwards.size(), wanted.data(), wanted.size());
  return found == nullptr
             ? std::string_view::npos
             : text.size() - part.size() - static_cast<std::size_t>(static_cast<const char*>(found) - backwards.data());
}

// As the reference: everything after the last place where the final text stands is taken away, and with it blanks at
// the end of that text when it begins with blanks too. The place is looked for in the last message alone.
std::vector<Piece> left_open(std::vector<Piece> pieces, std::size_t last_start, std::string_view text) {
  require_utf8(text, "the last message");
  const std::string flat = flat_text(pieces);
  const std::size_t from = flat_text(std::span(pieces).first(last_start)).size();
  const Stripped wanted = stripped(text);
  if (wanted.both_bytes == 0) {
    cannot_continue("a last message that is blank", "a last message with text");
  }
  if (flat.size() < from + kTail.size()) {
    cannot_continue("a last message that the template leaves out", "a last message of user, assistant or tool");
  }
  const std::string_view body = std::string_view(flat).substr(from, flat.size() - from - kTail.size());
  const std::size_t at = last_of(body, wanted.left.substr(0, wanted.both_bytes));
  if (at == std::string_view::npos) {
    cannot_continue("a last message whose text the template changes", "a text that is rendered as it is");
  }
  const bool kept_whole = body.substr(at, wanted.left.size()) == text;
  return cut_after(std::move(pieces), from + at + (kept_whole ? wanted.left.size() : wanted.both_bytes));
}

}  // namespace

ChatTemplate ChatTemplate::load(const std::filesystem::path& folder) { return ChatTemplate(load_edition(folder)); }

std::vector<Piece> ChatTemplate::render(const json::Array& messages, const json::Array* tools,
                                        const RenderOptions& options) const {
  if (options.continue_final_message && options.add_generation_prompt) {
    refuse(Radius::kRequest, {"continue_final_message", "add_generation_prompt set too", "only one of the two",
                              "set add_generation_prompt to false to continue the last message"});
  }
  TemplateRenderer renderer(edition_, options.add_vision_id, messages);
  renderer.render(tools);
  if (options.continue_final_message) {
    const std::size_t last_start = renderer.last_message_start();
    return left_open(renderer.out().take(), last_start, final_text(messages.back()));
  }
  if (options.add_generation_prompt) {
    renderer.open_assistant_turn();
  }
  return renderer.out().take();
}

}  // namespace zoetrope
