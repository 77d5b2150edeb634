#include "runtime/text/passage.h"

#include <algorithm>

namespace zoetrope {

void Passage::text(std::string_view text) {
  if (text.empty()) {
    return;
  }
  if (!pieces_.empty() && pieces_.back().kind == Piece::Kind::kText) {
    pieces_.back().text += text;
  } else {
    pieces_.push_back({Piece::Kind::kText, std::string(text)});
  }
}

void Passage::control(std::string_view surface) { pieces_.push_back({Piece::Kind::kControl, std::string(surface)}); }

void Passage::media(Piece::Kind kind, const json::Value* item) { pieces_.push_back({kind, "", item}); }

void Passage::append(const Piece& piece) {
  if (piece.kind == Piece::Kind::kText) {
    text(piece.text);
  } else {
    pieces_.push_back(piece);
  }
}

void Passage::append(const Passage& other) {
  for (const Piece& piece : other.pieces_) {
    append(piece);
  }
}

bool Passage::starts_with(std::string_view tag) const {
  return !pieces_.empty() && pieces_.front().kind == Piece::Kind::kText && pieces_.front().text.starts_with(tag);
}

bool Passage::ends_with(std::string_view tag) const {
  return !pieces_.empty() && pieces_.back().kind == Piece::Kind::kText && pieces_.back().text.ends_with(tag);
}

bool Passage::contains(std::string_view tag) const {
  return std::any_of(pieces_.begin(), pieces_.end(), [tag](const Piece& piece) {
    return piece.kind == Piece::Kind::kText && piece.text.find(tag) != std::string::npos;
  });
}

Passage Passage::before_first(std::string_view tag) const {
  Passage out;
  for (const Piece& piece : pieces_) {
    const std::size_t at = piece.kind == Piece::Kind::kText ? piece.text.find(tag) : std::string::npos;
    if (at != std::string::npos) {
      out.text(std::string_view(piece.text).substr(0, at));
      break;
    }
    out.pieces_.push_back(piece);
  }
  return out;
}

Passage Passage::after_last(std::string_view tag) const {
  Passage out;
  for (const Piece& piece : pieces_) {
    const std::size_t at = piece.kind == Piece::Kind::kText ? piece.text.rfind(tag) : std::string::npos;
    if (at != std::string::npos) {
      out.pieces_.clear();
      out.text(std::string_view(piece.text).substr(at + tag.size()));
    } else {
      out.pieces_.push_back(piece);
    }
  }
  return out;
}

Passage Passage::without_leading(char c) const {
  Passage out = *this;
  if (!out.pieces_.empty() && out.pieces_.front().kind == Piece::Kind::kText) {
    std::string& text = out.pieces_.front().text;
    text.erase(0, text.find_first_not_of(c));
    if (text.empty()) {
      out.pieces_.erase(out.pieces_.begin());
    }
  }
  return out;
}

Passage Passage::without_trailing(char c) const {
  Passage out = *this;
  if (!out.pieces_.empty() && out.pieces_.back().kind == Piece::Kind::kText) {
    std::string& text = out.pieces_.back().text;
    text.erase(text.find_last_not_of(c) + 1);
    if (text.empty()) {
      out.pieces_.pop_back();
    }
  }
  return out;
}

}  // namespace zoetrope
