#include "runtime/text/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

const std::string kBad = "\xEF\xBF\xBD";  // U+FFFD

std::string repaired(std::string_view bytes) {
  std::string out;
  EXPECT_EQ(append_repaired(out, bytes, true), bytes.size());
  return out;
}

TEST(Utf8, ReadsWhatItWrites) {
  for (char32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c < 0xE000) {
      continue;
    }
    std::string text;
    append_utf8(text, c);
    EXPECT_TRUE(is_valid_utf8(text));
    EXPECT_EQ(code_point_at(text, 0).value, c);
    EXPECT_EQ(code_point_at(text, 0).bytes, text.size());
    EXPECT_EQ(repaired(text), text);
  }
}

TEST(Utf8, KnowsWhatIsInvalid) {
  for (const char* text :
       {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xE4\xB8", "a\xC3", "\xC3(", "\xF0\x9F\x99("}) {
    EXPECT_FALSE(is_valid_utf8(text)) << testing::PrintToString(text);
    EXPECT_THROW(require_utf8(text, "the text"), Error);
  }
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_NO_THROW(require_utf8("\xEF\xBF\xBF\xF4\x8F\xBF\xBF", "the text"));
}

TEST(Utf8, NamesTheFirstWrongByte) {
  try {
    require_utf8("ab\xC3\xA9\xFFzz", "the prompt");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kRequest);
    EXPECT_STREQ(
        error.what(),
        "the prompt is not valid UTF-8: found byte 0xff at offset 4, expected UTF-8 text; convert the text to UTF-8");
  }
}

// bytes.decode("utf-8", errors="replace") of Python.
TEST(Utf8, RepairsAsPythonDoes) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"\xE4\xB8", kBad},
      {"\xF0\x9F\x98", kBad},
      {"\xFF", kBad},
      {"\xC0\xAF", kBad + kBad},
      {"\xED\xA0\x80", kBad + kBad + kBad},
      {"\xE4"
       "A",
       kBad + "A"},
      {"\x80\x80", kBad + kBad},
      {"\xF4\x90\x80\x80", kBad + kBad + kBad + kBad},
      {"a\xC3"
       "b",
       "a" + kBad + "b"},
      {"\xE2\x82\xAC\xE2\x82", "\xE2\x82\xAC" + kBad},
      {"\xF0"
       "A\x9F",
       kBad + "A" + kBad},
      {"\xF0\x9F\xF0\x9F\x99\x82", kBad + "\xF0\x9F\x99\x82"},
      {"\xF8\x88\x80\x80\x80", kBad + kBad + kBad + kBad + kBad},
  };
  for (const auto& [bytes, expected] : rows) {
    EXPECT_EQ(repaired(bytes), expected) << testing::PrintToString(bytes);
  }
}

TEST(Utf8, LeavesAnUnfinishedEndUnread) {
  std::string out;
  EXPECT_EQ(append_repaired(out, "a\xF0\x9F\x99", false), 1u);
  EXPECT_EQ(out, "a");
  EXPECT_EQ(append_repaired(out, "\xF0\x9F(", false), 3u);
  EXPECT_EQ(out, "a" + kBad + "(");
  EXPECT_EQ(append_repaired(out, "\xED\xA0", false), 2u);  // can never become a code point
}

}  // namespace
}  // namespace zoetrope
