#include "runtime/text/passage.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

// "[i]" stands for a picture in these tests' descriptions of passages.
Passage passage(std::string_view described) {
  Passage out;
  for (std::size_t at; (at = described.find("[i]")) != std::string_view::npos; described.remove_prefix(at + 3)) {
    out.text(described.substr(0, at));
    out.media(Piece::Kind::kImage, nullptr);
  }
  out.text(described);
  return out;
}

std::string described(const Passage& passage) {
  std::string out;
  for (const Piece& piece : passage.pieces()) {
    EXPECT_TRUE(piece.kind != Piece::Kind::kText || !piece.text.empty());
    out += piece.kind == Piece::Kind::kText ? piece.text : "[i]";
  }
  return out;
}

TEST(Passage, JoinsNeighbouringTexts) {
  Passage one;
  one.text("a");
  one.text("");
  one.text("b");
  Passage two;
  two.text("c");
  two.control("<|im_end|>");
  two.text("d");
  one.append(two);
  ASSERT_EQ(one.pieces().size(), 3u);
  EXPECT_EQ(one.pieces()[0].text, "abc");
  EXPECT_EQ(one.pieces()[1].kind, Piece::Kind::kControl);
  EXPECT_EQ(one.pieces()[2].text, "d");
  EXPECT_EQ(one.take().size(), 3u);
  EXPECT_TRUE(Passage().empty());
  EXPECT_FALSE(passage("[i]").empty());
}

TEST(Passage, LooksForTagsInTexts) {
  EXPECT_TRUE(passage("<t>x").starts_with("<t>"));
  EXPECT_FALSE(passage("[i]<t>").starts_with("<t>"));
  EXPECT_TRUE(passage("x[i]y<t>").ends_with("<t>"));
  EXPECT_FALSE(passage("<t>[i]").ends_with("<t>"));
  EXPECT_TRUE(passage("x[i]a<t>b[i]").contains("<t>"));
  EXPECT_FALSE(passage("<t[i]>").contains("<t>"));
  EXPECT_FALSE(Passage().contains("<t>") || Passage().starts_with("<t>") || Passage().ends_with("<t>"));
}

TEST(Passage, SplitsAtTags) {
  const Passage two = passage("a[i]b<t>c[i]<t>d[i]e");
  EXPECT_EQ(described(two.before_first("<t>")), "a[i]b");
  EXPECT_EQ(described(two.after_last("<t>")), "d[i]e");
  EXPECT_EQ(described(passage("a<t>b<t>c").before_first("<t>")), "a");
  EXPECT_EQ(described(passage("a<t>b<t>c").after_last("<t>")), "c");
  EXPECT_EQ(described(passage("[i]a").before_first("<t>")), "[i]a");
  EXPECT_EQ(described(passage("[i]a").after_last("<t>")), "[i]a");
  EXPECT_EQ(described(passage("<t>").before_first("<t>")), "");
  EXPECT_EQ(described(passage("<t>").after_last("<t>")), "");
}

TEST(Passage, StripsItsEndsOnly) {
  EXPECT_EQ(described(passage("\n\na\n[i]\nb\n").without_leading('\n')), "a\n[i]\nb\n");
  EXPECT_EQ(described(passage("\n\na\n[i]\nb\n\n").without_trailing('\n')), "\n\na\n[i]\nb");
  EXPECT_EQ(described(passage("\n\n[i]\n").without_leading('\n')), "[i]\n");
  EXPECT_EQ(described(passage("\n[i]\n\n").without_trailing('\n')), "\n[i]");
  EXPECT_EQ(described(passage("\n\n").without_leading('\n')), "");
  EXPECT_EQ(described(Passage().without_trailing('\n')), "");
}

}  // namespace
}  // namespace zoetrope
