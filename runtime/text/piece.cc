#include "runtime/text/piece.h"

namespace zoetrope {

std::string flat_text(const Piece& piece) {
  switch (piece.kind) {
    case Piece::Kind::kText:
      return piece.text;
    case Piece::Kind::kImage:
      return "<|vision_start|><|image_pad|><|vision_end|>";
    case Piece::Kind::kVideo:
      return "<|vision_start|><|video_pad|><|vision_end|>";
    case Piece::Kind::kControl:
      break;
  }
  std::string out;
  for (int i = 0; i < piece.repeat; ++i) {
    out += piece.text;
  }
  return out;
}

std::string flat_text(std::span<const Piece> pieces) {
  std::string out;
  for (const Piece& piece : pieces) {
    out += flat_text(piece);
  }
  return out;
}

}  // namespace zoetrope
