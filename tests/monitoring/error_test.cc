#include "monitoring/error.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

TEST(Error, SaysAllFourParts) {
  const Error error(Radius::kStartup, Complaint{"config.json: layers", "3", "4", "use the right file"});
  EXPECT_STREQ(error.what(), "config.json: layers: found 3, expected 4; use the right file");
  EXPECT_EQ(error.radius(), Radius::kStartup);
}

TEST(Error, LeavesOutWhatIsEmpty) {
  EXPECT_STREQ(Error(Radius::kRequest, Complaint{"a", "b", "", ""}).what(), "a: found b");
  EXPECT_STREQ(Error(Radius::kRequest, Complaint{"a", "", "c", ""}).what(), "a: expected c");
  EXPECT_STREQ(Error(Radius::kRequest, Complaint{"a", "", "", "d"}).what(), "a; d");
  EXPECT_STREQ(Error(Radius::kCluster, "rank 3 is gone").what(), "rank 3 is gone");
}

TEST(Refuse, ThrowsWithItsRadius) {
  for (const Radius radius : {Radius::kRequest, Radius::kStartup, Radius::kCluster}) {
    try {
      refuse(radius, {"what", "found", "expected", "remedy"});
      FAIL() << "nothing thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.radius(), radius);
    }
  }
}

TEST(UsageError, IsNoError) {
  EXPECT_THROW(throw UsageError("--no-such-flag"), std::runtime_error);
  EXPECT_FALSE((std::is_base_of_v<Error, UsageError>));
}

TEST(Quoted, EscapesWhatWouldBreakALine) {
  EXPECT_EQ(zoetrope::quoted(""), "''");
  EXPECT_EQ(zoetrope::quoted("plain text"), "'plain text'");
  EXPECT_EQ(zoetrope::quoted(std::string_view("a\nb\0c\x1b\x7f", 7)), "'a\\x0ab\\x00c\\x1b\\x7f'");
}

TEST(Quoted, CutsBetweenCharacters) {
  EXPECT_EQ(zoetrope::quoted("abcdef", 6), "'abcdef'");
  EXPECT_EQ(zoetrope::quoted("abcdef", 5), "'abcde...'");
  EXPECT_EQ(zoetrope::quoted("\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x99\x82x", 3), "'\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x99\x82...'");
}

TEST(Quoted, StaysUtf8WhateverItQuotes) {
  EXPECT_EQ(zoetrope::quoted("\xFF"), "'\\xff'");
  EXPECT_EQ(zoetrope::quoted("a\xE4\xB8"), "'a\\xe4\\xb8'");
  EXPECT_EQ(zoetrope::quoted("\xED\xA0\x80"), "'\\xed\\xa0\\x80'");
  EXPECT_EQ(zoetrope::quoted("\xC0\xAF"), "'\\xc0\\xaf'");
  EXPECT_EQ(zoetrope::quoted("\xE0\x80\x80\xF0\x80\x80\x80\xF4\x90\x80\x80\xF5"),
            "'\\xe0\\x80\\x80\\xf0\\x80\\x80\\x80\\xf4\\x90\\x80\\x80\\xf5'");
}

TEST(OneLine, MakesVisibleWhatWouldBreakTheLine) {
  EXPECT_EQ(one_line("models/a\nb: found no such folder"), "models/a\\x0ab: found no such folder");
  EXPECT_EQ(one_line("\x1b[31m\r\t"), "\\x1b[31m\\x0d\\x09");
  const std::string plain = "caf\xC3\xA9 'quoted' \\ " + std::string(5000, 'x');
  EXPECT_EQ(one_line(plain), plain);
}

TEST(PrintFailure, IsOneLine) {
  testing::internal::CaptureStderr();
  print_failure("a\nb");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "zoetrope: a\\x0ab\n");
}

}  // namespace
}  // namespace zoetrope
