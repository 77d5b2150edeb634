// A conversation becomes the pieces of a prompt, string for string what the published template renders.
#pragma once

#include <filesystem>
#include <vector>

#include "runtime/json/json.h"
#include "runtime/text/piece.h"
#include "runtime/text/template_edition.h"

namespace zoetrope {

struct RenderOptions {
  bool add_generation_prompt = true;    // open an assistant turn at the end
  bool add_vision_id = false;           // "Picture 1: ", "Video 1: " before media
  bool continue_final_message = false;  // leave the last message open, to be continued
};

class ChatTemplate {
 public:
  // Throws Error(kStartup) unless the folder carries one of the published templates.
  static ChatTemplate load(const std::filesystem::path& folder);
  explicit ChatTemplate(Edition edition) : edition_(edition) {}

  Edition edition() const { return edition_; }

  // `tools`: nullptr or the list of tool definitions. Media pieces point into `messages`. Control tokens come from the
  // template, and from the content of assistant messages the four tags that a model writes itself (<think>, <tool_call>
  // and their ends), so that an answer fed back is the tokens it was; all other text of the messages stays text.
  // Throws Error(kRequest) where the reference library refuses the conversation; beyond it also a message or a tool
  // call of a wrong type, a text that is a list or an object, and a continuation that would begin inside a control.
  std::vector<Piece> render(const json::Array& messages, const json::Array* tools, const RenderOptions& options) const;

 private:
  Edition edition_;
};

}  // namespace zoetrope
