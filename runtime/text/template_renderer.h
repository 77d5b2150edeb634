// The published templates' text, part by part (reference: chat_template.json of Qwen3-VL Instruct and Thinking).
#pragma once

#include <string>
#include <string_view>

#include "runtime/json/json.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/passage.h"

namespace zoetrope {

// One rendering of one conversation, which must outlive it.
class TemplateRenderer {
 public:
  TemplateRenderer(Edition edition, bool add_vision_id, const json::Array& messages);

  void render(const json::Array* tools);  // everything up to the end of the last message
  void open_assistant_turn();

  // The last message's pieces begin at this piece; npos-like pieces().size() when it rendered nothing.
  std::size_t last_message_start() const { return last_start_; }
  Passage& out() { return out_; }

 private:
  enum class Vision { kRender, kIgnore };

  std::string_view role(std::size_t k) const;  // "" when it is no text
  std::string where(std::size_t k) const;      // for messages
  Passage content(std::size_t k, Vision vision, bool count);
  void content_item(const json::Value& item, bool may_hold_media, Vision vision, bool count, std::size_t k,
                    Passage& out);
  void media(Piece::Kind kind, const json::Value& item, bool count, Passage& out);

  void system_block(const json::Array* tools);
  void instruct_message(std::size_t k);
  void thinking_message(std::size_t k);
  void turn(std::string_view role, const Passage& content);
  void tool_response(std::size_t k, const Passage& content);
  void thinking_answer(std::size_t k, Passage content);
  void tool_calls(std::size_t k, bool after_content);
  void tool_call(const json::Value& call, const std::string& where);
  std::size_t last_query();

  bool thinking_;
  bool add_vision_id_;
  const json::Array& messages_;
  std::size_t last_query_ = 0;  // Thinking: index of the last real question
  int pictures_ = 0, videos_ = 0;
  std::size_t last_start_ = 0;
  Passage out_;
};

}  // namespace zoetrope
