#include "runtime/text/piece.h"

#include <gtest/gtest.h>

#include <vector>

namespace zoetrope {
namespace {

TEST(FlatText, WritesPiecesAsThePublishedTemplate) {
  const std::vector<Piece> pieces = {{Piece::Kind::kControl, "<|im_start|>"},
                                     {Piece::Kind::kText, "user\n"},
                                     {Piece::Kind::kImage, ""},
                                     {Piece::Kind::kVideo, ""},
                                     {Piece::Kind::kControl, "<|image_pad|>", nullptr, 3},
                                     {Piece::Kind::kControl, "<|video_pad|>", nullptr, 0}};
  EXPECT_EQ(flat_text(pieces),
            "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|video_pad|><|vision_end|>"
            "<|image_pad|><|image_pad|><|image_pad|>");
  EXPECT_EQ(flat_text(std::span<const Piece>{}), "");
}

}  // namespace
}  // namespace zoetrope
