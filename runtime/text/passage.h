// A stretch of prompt under construction: pieces with neighbouring texts joined, and the string operations the
// published templates perform on rendered content.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "runtime/text/piece.h"

namespace zoetrope {

class Passage {
 public:
  void text(std::string_view text);  // joined to a text before it
  void control(std::string_view surface);
  void media(Piece::Kind kind, const json::Value* item);
  void append(const Piece& piece);
  void append(const Passage& other);

  const std::vector<Piece>& pieces() const { return pieces_; }
  std::vector<Piece> take() { return std::move(pieces_); }
  bool empty() const { return pieces_.empty(); }  // renders as nothing

  // About the rendered string. `tag` begins with '<', ends with '>' and holds neither in between nor a control's
  // surface, so it can only stand inside one text.
  bool starts_with(std::string_view tag) const;
  bool ends_with(std::string_view tag) const;
  bool contains(std::string_view tag) const;
  Passage before_first(std::string_view tag) const;  // all when the tag is absent
  Passage after_last(std::string_view tag) const;    // all when the tag is absent
  Passage without_leading(char c) const;
  Passage without_trailing(char c) const;

 private:
  std::vector<Piece> pieces_;  // texts are never empty and never neighbours
};

}  // namespace zoetrope
