// A rendered prompt before it becomes tokens. Text and control tokens are kept apart from the start, so nothing a user
// writes can turn into a control token.
#pragma once

#include <span>
#include <string>

#include "runtime/json/json.h"

namespace zoetrope {

struct Piece {
  enum class Kind { kText, kControl, kImage, kVideo };
  Kind kind;
  std::string text;                   // the text, or the control's surface ("<|im_end|>")
  const json::Value* item = nullptr;  // media: the content item, owned by the messages
  int repeat = 1;                     // controls: how many times
};

// What the published template renders: media as <|vision_start|><|image_pad|><|vision_end|> (films: <|video_pad|>).
std::string flat_text(const Piece& piece);
std::string flat_text(std::span<const Piece> pieces);

}  // namespace zoetrope
