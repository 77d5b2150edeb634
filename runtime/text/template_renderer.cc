#include "runtime/text/template_renderer.h"

#include <fmt/format.h>

#include <algorithm>

#include "monitoring/error.h"
#include "runtime/text/python_json.h"

namespace zoetrope {
namespace {

constexpr std::string_view kStart = "<|im_start|>", kEnd = "<|im_end|>";
constexpr std::string_view kThink = "<think>", kThinkEnd = "</think>";
constexpr std::string_view kCall = "<tool_call>", kCallEnd = "</tool_call>";
constexpr std::string_view kResponse = "<tool_response>", kResponseEnd = "</tool_response>";

[[noreturn]] void complain(std::string what, std::string found, std::string expected, std::string remedy) {
  refuse(Radius::kRequest, {std::move(what), std::move(found), std::move(expected), std::move(remedy)});
}

const json::Value* member(const json::Value& value, std::string_view key) {
  return value.is_object() ? value.get_object().if_contains(key) : nullptr;
}

// What Python's `if value` means; an absent value is false.
bool is_truthy(const json::Value* value) {
  if (value == nullptr || value->is_null()) {
    return false;
  }
  switch (value->kind()) {
    case boost::json::kind::bool_:
      return value->get_bool();
    case boost::json::kind::string:
      return !value->get_string().empty();
    case boost::json::kind::array:
      return !value->get_array().empty();
    case boost::json::kind::object:
      return !value->get_object().empty();
    default:
      return value->to_number<double>() != 0.0;
  }
}

// Python's `key in item`: a key of an object, a part of a text, an element of a list.
bool holds(const json::Value& item, std::string_view key) {
  if (item.is_object()) {
    return item.get_object().contains(key);
  }
  if (item.is_string()) {
    return std::string_view(item.get_string()).find(key) != std::string_view::npos;
  }
  return item.is_array() && std::any_of(item.get_array().begin(), item.get_array().end(),
                                        [key](const json::Value& v) { return v.is_string() && v.get_string() == key; });
}

bool is_text(const json::Value* value, std::string_view expected) {
  return value != nullptr && value->is_string() && value->get_string() == expected;
}

// Python's str() of a JSON scalar.
std::string printed(const json::Value& value, const std::string& where) {
  switch (value.kind()) {
    case boost::json::kind::string:
      return std::string(value.get_string());
    case boost::json::kind::null:
      return "None";
    case boost::json::kind::bool_:
      return value.get_bool() ? "True" : "False";
    case boost::json::kind::array:
    case boost::json::kind::object:
      complain(where, json::described(value), "a text", "write the text as one string");
    default:
      return to_python_json(value);
  }
}

// The tag a model writes itself (thoughts, tool calls) that `text` begins with, or nothing.
std::string_view own_tag(std::string_view text) {
  for (const std::string_view tag : {kThink, kThinkEnd, kCall, kCallEnd}) {
    if (text.starts_with(tag)) {
      return tag;
    }
  }
  return {};
}

// An assistant's turn as the model generated it: the tags that a model writes itself are its control tokens again.
// Nothing that ends a turn or opens a medium is among them, and no other role's text is read this way.
Passage as_generated(const Passage& content) {
  Passage out;
  for (const Piece& piece : content.pieces()) {
    if (piece.kind != Piece::Kind::kText) {
      out.append(piece);
      continue;
    }
    const std::string_view text = piece.text;
    std::size_t written = 0;
    for (std::size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at)) {
      const std::string_view tag = own_tag(text.substr(at));
      if (tag.empty()) {
        ++at;
        continue;
      }
      out.text(text.substr(written, at - written));
      out.control(tag);
      written = at += tag.size();
    }
    out.text(text.substr(written));
  }
  return out;
}

}  // namespace

TemplateRenderer::TemplateRenderer(Edition edition, bool add_vision_id, const json::Array& messages)
    : thinking_(edition == Edition::kThinking), add_vision_id_(add_vision_id), messages_(messages) {
  if (messages.empty()) {
    complain("messages", "an empty conversation", "at least one message", "add a message with role and content");
  }
  for (std::size_t k = 0; k < messages.size(); ++k) {
    if (!messages[k].is_object()) {
      complain(where(k), json::described(messages[k]), "an object with role and content",
               "write each message as an object");
    }
  }
}

std::string TemplateRenderer::where(std::size_t k) const { return fmt::format("messages[{}]", k); }

std::string_view TemplateRenderer::role(std::size_t k) const {
  const json::Value* role = k < messages_.size() ? member(messages_[k], "role") : nullptr;
  return role != nullptr && role->is_string() ? std::string_view(role->get_string()) : std::string_view();
}

Passage TemplateRenderer::content(std::size_t k, Vision vision, bool count) {
  Passage out;
  const json::Value* value = member(messages_[k], "content");
  if (value == nullptr) {
    return out;  // renders as nothing in the reference
  }
  if (value->is_string()) {
    out.text(value->get_string());
  } else if (value->is_array()) {
    for (const json::Value& item : value->get_array()) {
      content_item(item, true, vision, count, k, out);
    }
  } else if (value->is_object()) {
    for (const auto& [key, ignored] : value->get_object()) {  // the reference walks over the keys
      content_item(json::Value(key), false, vision, count, k, out);
    }
  } else {
    complain(where(k) + ".content", json::described(*value), "a text or a list of items",
             "give the content as a string");
  }
  return out;
}

void TemplateRenderer::content_item(const json::Value& item, bool may_hold_media, Vision vision, bool count,
                                    std::size_t k, Passage& out) {
  if (!item.is_object() && !item.is_string() && !item.is_array()) {
    complain(where(k) + ".content", json::described(item), "items that are objects",
             "write items as {\"type\": \"text\", \"text\": ...}");
  }
  const json::Value* type = member(item, "type");
  const bool picture = is_text(type, "image") || holds(item, "image") || holds(item, "image_url");
  const bool video = is_text(type, "video") || holds(item, "video");
  if (vision == Vision::kRender && (picture || video)) {
    if (!may_hold_media) {
      complain(where(k) + ".content", "an object with a picture or a film", "a list of items",
               "put the object in a list");
    }
    media(picture ? Piece::Kind::kImage : Piece::Kind::kVideo, item, count, out);
  } else if (const json::Value* text = member(item, "text")) {
    out.text(printed(*text, where(k) + ".content: text"));
  }
}

void TemplateRenderer::media(Piece::Kind kind, const json::Value& item, bool count, Passage& out) {
  const bool picture = kind == Piece::Kind::kImage;
  int& number = picture ? pictures_ : videos_;
  number += count ? 1 : 0;
  if (add_vision_id_) {
    out.text(fmt::format("{} {}: ", picture ? "Picture" : "Video", number));
  }
  out.media(kind, &item);
}

void TemplateRenderer::render(const json::Array* tools) {
  system_block(tools);
  if (thinking_) {
    last_query_ = last_query();
  }
  for (std::size_t k = 0; k < messages_.size(); ++k) {
    if (k + 1 == messages_.size() && !(k == 0 && role(0) == "system")) {
      last_start_ = out_.pieces().size();
    }
    if (thinking_) {
      thinking_message(k);
    } else {
      instruct_message(k);
    }
  }
}

void TemplateRenderer::open_assistant_turn() {
  out_.control(kStart);
  out_.text("assistant\n");
  if (thinking_) {
    out_.control(kThink);
    out_.text("\n");
  }
}

void TemplateRenderer::system_block(const json::Array* tools) {
  const bool with_tools = tools != nullptr && !tools->empty();
  const bool with_system = role(0) == "system";
  if (!with_tools && !with_system) {
    return;
  }
  out_.control(kStart);
  out_.text("system\n");
  if (with_system) {
    out_.append(content(0, thinking_ ? Vision::kRender : Vision::kIgnore, false));
  }
  if (with_tools) {
    out_.text(with_system ? "\n\n" : "");
    out_.text(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
    for (const json::Value& tool : *tools) {
      if (!tool.is_object()) {
        complain("tools", json::described(tool), "objects that describe functions", "write each tool as an object");
      }
      out_.text("\n");
      out_.text(to_python_json(tool));
    }
    out_.text("\n</tools>\n\nFor each function call, return a json object with function name and arguments within ");
    out_.control(kCall);
    out_.control(kCallEnd);
    out_.text(" XML tags:\n");
    out_.control(kCall);
    out_.text("\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n");
    out_.control(kCallEnd);
  }
  out_.control(kEnd);
  out_.text("\n");
}

void TemplateRenderer::instruct_message(std::size_t k) {
  if (role(k) == "user") {
    turn("user", content(k, Vision::kRender, true));
  } else if (role(k) == "assistant") {
    out_.control(kStart);
    out_.text("assistant\n");
    out_.append(as_generated(content(k, Vision::kIgnore, false)));
    tool_calls(k, is_truthy(member(messages_[k], "content")));
    out_.control(kEnd);
    out_.text("\n");
  } else if (role(k) == "tool") {
    tool_response(k, content(k, Vision::kRender, true));
  }
}

void TemplateRenderer::thinking_message(std::size_t k) {
  Passage content = this->content(k, Vision::kRender, true);  // counted whatever the role
  if (role(k) == "user" || (role(k) == "system" && k > 0)) {
    turn(role(k), content);
  } else if (role(k) == "assistant") {
    thinking_answer(k, std::move(content));
  } else if (role(k) == "tool") {
    tool_response(k, content);
  }
}

void TemplateRenderer::turn(std::string_view role, const Passage& content) {
  out_.control(kStart);
  out_.text(role);
  out_.text("\n");
  out_.append(content);
  out_.control(kEnd);
  out_.text("\n");
}

void TemplateRenderer::tool_response(std::size_t k, const Passage& content) {
  if (k == 0 || role(k - 1) != "tool") {
    out_.control(kStart);
    out_.text("user");
  }
  out_.text("\n");
  out_.control(kResponse);
  out_.text("\n");
  out_.append(content);
  out_.text("\n");
  out_.control(kResponseEnd);
  if (role(k + 1) != "tool") {
    out_.control(kEnd);
    out_.text("\n");
  }
}

// Thoughts are kept only after the last question, and there only in the last message or where they are not empty.
void TemplateRenderer::thinking_answer(std::size_t k, Passage content) {
  Passage thoughts;
  if (const json::Value* field = member(messages_[k], "reasoning_content"); field != nullptr && field->is_string()) {
    thoughts.text(field->get_string());
  } else if (content.contains(kThinkEnd)) {
    thoughts = content.before_first(kThinkEnd).without_trailing('\n').after_last(kThink).without_leading('\n');
    content = content.after_last(kThinkEnd).without_leading('\n');
  }
  out_.control(kStart);
  out_.text("assistant\n");
  if (k > last_query_ && (k + 1 == messages_.size() || !thoughts.empty())) {
    out_.control(kThink);
    out_.text("\n");
    out_.append(thoughts.without_leading('\n').without_trailing('\n'));
    out_.text("\n");
    out_.control(kThinkEnd);
    out_.text("\n\n");
    out_.append(as_generated(content.without_leading('\n')));
  } else {
    out_.append(as_generated(content));
  }
  tool_calls(k, !content.empty());
  out_.control(kEnd);
  out_.text("\n");
}

void TemplateRenderer::tool_calls(std::size_t k, bool after_content) {
  const json::Value* calls = member(messages_[k], "tool_calls");
  if (!is_truthy(calls)) {
    return;
  }
  if (!calls->is_array()) {
    complain(where(k) + ".tool_calls", json::described(*calls), "a list of calls", "write the calls as a list");
  }
  for (std::size_t i = 0; i < calls->get_array().size(); ++i) {
    if (i > 0 || after_content) {
      out_.text("\n");
    }
    tool_call(calls->get_array()[i], fmt::format("{}.tool_calls[{}]", where(k), i));
  }
}

void TemplateRenderer::tool_call(const json::Value& call, const std::string& where) {
  const json::Value* wrapped = member(call, "function");
  const json::Value& function = is_truthy(wrapped) ? *wrapped : call;
  const json::Value* arguments = member(function, "arguments");
  if (arguments == nullptr) {
    complain(where, function.is_object() ? "no field 'arguments'" : json::described(function),
             "a call with name and arguments", "add \"arguments\" (an object; {} when there are none)");
  }
  const json::Value* name = member(function, "name");
  out_.control(kCall);
  out_.text("\n{\"name\": \"");
  out_.text(name == nullptr ? "" : printed(*name, where + ".name"));
  out_.text("\", \"arguments\": ");
  out_.text(arguments->is_string() ? std::string(arguments->get_string()) : to_python_json(*arguments));
  out_.text("}\n");
  out_.control(kCallEnd);
}

// The last user message that is no tool response in disguise; the last message when there is none.
std::size_t TemplateRenderer::last_query() {
  for (std::size_t k = messages_.size(); k-- > 0;) {
    if (role(k) == "user") {
      const Passage asked = content(k, Vision::kRender, false);
      if (!(asked.starts_with(kResponse) && asked.ends_with(kResponseEnd))) {
        return k;
      }
    }
  }
  return messages_.size() - 1;
}

}  // namespace zoetrope
