#include "runtime/json/json.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

const json::Source kSource{"request.json", Radius::kRequest};

json::Value parsed(std::string_view text) { return json::parse(text, kSource); }

// The message of the refusal, or "accepted".
std::string refusal(std::string_view text) {
  try {
    parsed(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kRequest);
    return error.what();
  }
  return "accepted";
}

bool mentions(const std::string& message, std::string_view part) { return message.find(part) != std::string::npos; }

TEST(Parse, ReadsEveryKindOfValue) {
  const json::Value value = parsed(
      " {\"null\": null, \"yes\": true, \"n\": -7, \"big\": 18446744073709551615, \"x\": 2.5,\n"
      "\"text\": \"a\\u00e9\\ud83d\\ude42\\n\\u0000b\", \"list\": [1, [], {}]} \r\n\t");
  const json::Object& object = value.as_object();
  EXPECT_TRUE(object.at("null").is_null());
  EXPECT_TRUE(object.at("yes").as_bool());
  EXPECT_EQ(object.at("n").as_int64(), -7);
  EXPECT_EQ(object.at("big").as_uint64(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(object.at("x").as_double(), 2.5);
  EXPECT_EQ(std::string(object.at("text").as_string()), std::string("a\xC3\xA9\xF0\x9F\x99\x82\n\0b", 10));
  EXPECT_EQ(object.at("list").as_array().size(), 3u);
  std::string keys;
  for (const auto& [key, ignored] : object) {
    keys += std::string(key) + " ";
  }
  EXPECT_EQ(keys, "null yes n big x text list ");
}

TEST(Parse, ReadsScalarsThatStandAlone) {
  EXPECT_EQ(parsed("12").as_int64(), 12);
  EXPECT_EQ(parsed("12345678901 ").as_int64(), 12345678901);
  EXPECT_EQ(parsed("1.5").as_double(), 1.5);
  EXPECT_EQ(parsed("-2e3").as_double(), -2000.0);
  EXPECT_EQ(parsed("\"x\"").as_string(), "x");
  EXPECT_TRUE(parsed("null").is_null());
}

TEST(Parse, RoundsNumbersToTheNearestDouble) {
  // Halfway cases and ends of the range; expected values written in hexadecimal.
  EXPECT_EQ(parsed("9007199254740993.0").as_double(), 0x1p53);
  EXPECT_EQ(parsed("0.1").as_double(), 0x1.999999999999ap-4);
  EXPECT_EQ(parsed("1e23").as_double(), 0x1.52d02c7e14af6p+76);
  EXPECT_EQ(parsed("2.2250738585072011e-308").as_double(), 0x0.fffffffffffffp-1022);
  EXPECT_EQ(parsed("5e-324").as_double(), 0x1p-1074);
  EXPECT_EQ(parsed("1.7976931348623157e308").as_double(), std::numeric_limits<double>::max());
  EXPECT_EQ(parsed("1e-400").as_double(), 0.0);
  EXPECT_TRUE(std::signbit(parsed("-0.0").as_double()));
  EXPECT_EQ(parsed("0." + std::string(320, '0') + "1e321").as_double(), 1.0);
  EXPECT_EQ(parsed("123456789012345678901234567890.0").as_double(), 123456789012345678901234567890.0);
}

TEST(Parse, RefusesNumbersThatDoNotFit) {
  EXPECT_TRUE(mentions(refusal("[1e999]"), "1e999")) << refusal("[1e999]");
  EXPECT_TRUE(mentions(refusal("[-1e999]"), "larger than a double")) << refusal("[-1e999]");
  EXPECT_NE(refusal("1.7976931348623159e308"), "accepted");
  EXPECT_NE(refusal("1e99999999999"), "accepted");
  EXPECT_TRUE(mentions(refusal("18446744073709551616"), "64 bits")) << refusal("18446744073709551616");
  EXPECT_TRUE(mentions(refusal("-9223372036854775809"), "64 bits")) << refusal("-9223372036854775809");
  EXPECT_TRUE(mentions(refusal("[1180591620717411303424]"), "64 bits"));
  EXPECT_EQ(parsed("-9223372036854775808").as_int64(), std::numeric_limits<std::int64_t>::min());
}

TEST(Parse, RefusesWhatStrictJsonForbids) {
  for (const std::string& text : {std::string(),
                                  std::string("  "),
                                  std::string("{"),
                                  std::string("[1,]"),
                                  std::string("{\"a\":1,}"),
                                  std::string("{a:1}"),
                                  std::string("'a'"),
                                  std::string("[1 2]"),
                                  std::string("01"),
                                  std::string("+1"),
                                  std::string(".5"),
                                  std::string("1."),
                                  std::string("1e"),
                                  std::string("-"),
                                  std::string("0x10"),
                                  std::string("NaN"),
                                  std::string("Infinity"),
                                  std::string("-Infinity"),
                                  std::string("nul"),
                                  std::string("True"),
                                  std::string("[1] // x"),
                                  std::string("/* x */ 1"),
                                  std::string("\"a\nb\""),
                                  std::string("\"\\x41\""),
                                  std::string("\"\\u12\""),
                                  std::string("\"\\ud800\""),
                                  std::string("\"\\udc00\""),
                                  std::string("\"\\ud800\\u0041\""),
                                  std::string("\"open"),
                                  std::string("\xEF\xBB\xBF{}"),
                                  std::string("1 2"),
                                  std::string("{} {}"),
                                  std::string("[]]"),
                                  std::string("\"a\0b\"", 5),
                                  std::string("{}\0", 3)}) {
    EXPECT_NE(refusal(text), "accepted") << testing::PrintToString(text);
  }
}

TEST(Parse, RefusesInvalidUtf8) {
  for (const char* text : {"\"\xFF\"", "\"\xC0\xAF\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xE4\xB8\"",
                           "{\"\x80\": 1}", "\"\xF8\x88\x80\x80\x80\""}) {
    EXPECT_NE(refusal(text), "accepted") << testing::PrintToString(text);
  }
  EXPECT_EQ(refusal("\"\xF4\x8F\xBF\xBF\xEF\xBF\xBF\""), "accepted");
}

TEST(Parse, RefusesAKeyThatStandsTwice) {
  EXPECT_TRUE(mentions(refusal("{\"a\": {\"b\": 1, \"b\": 2}}"), "'b'")) << refusal("{\"b\": 1, \"b\": 2}");
  EXPECT_TRUE(mentions(refusal("{\"a\": 1, \"\\u0061\": 2}"), "stands twice"));
  EXPECT_EQ(refusal("{\"a\": {\"a\": 1}, \"b\": {\"a\": 1}}"), "accepted");
}

TEST(Parse, LimitsTheDepth) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(refusal(nested(64)), "accepted");
  EXPECT_NE(refusal(nested(65)), "accepted");
  EXPECT_NE(refusal(std::string(1'000'000, '[')), "accepted");
}

TEST(Parse, NamesSourceLineAndColumn) {
  const std::string message = refusal("{\n  \"a\": 1,\n  \"b\": ?\n}");
  EXPECT_TRUE(mentions(message, "request.json")) << message;
  EXPECT_TRUE(mentions(message, "line 3, column 8")) << message;
}

TEST(Parse, KeepsLongTextsWhole) {
  const std::string text(3'000'000, 'x');
  EXPECT_EQ(parsed("{\"" + text + "\": \"" + text + "\"}").as_object().at(text).as_string(), text);
}

class ParseFile : public testing::Test {
 protected:
  const std::filesystem::path path_ =
      std::filesystem::path(testing::TempDir()) / ("zoetrope-json-" + std::to_string(::getpid()) + ".json");
  void TearDown() override { std::filesystem::remove(path_); }
  std::filesystem::path file(const std::string& content) const {
    std::ofstream(path_, std::ios::binary) << content;
    return path_;
  }
  static std::string refusal(const std::filesystem::path& path, std::size_t bytes_max) {
    try {
      json::parse_file(path, Radius::kStartup, bytes_max);
    } catch (const Error& error) {
      EXPECT_EQ(error.radius(), Radius::kStartup);
      return error.what();
    }
    return "accepted";
  }
};

TEST_F(ParseFile, ReadsAFileAndKeepsToItsLimit) {
  const auto path = file("{\"a\": 1}");
  EXPECT_EQ(json::parse_file(path, Radius::kStartup).as_object().at("a").as_int64(), 1);
  EXPECT_EQ(refusal(path, 8), "accepted");
  EXPECT_TRUE(mentions(refusal(path, 7), "8 bytes"));
  EXPECT_TRUE(mentions(refusal(file("{"), 100), path.string()));
  EXPECT_NE(refusal(file(""), 100), "accepted");
}

TEST_F(ParseFile, RefusesWhatIsNoFile) {
  EXPECT_TRUE(mentions(refusal("/nowhere/x.json", 100), "/nowhere/x.json"));
  EXPECT_TRUE(mentions(refusal(testing::TempDir(), 100), "no regular file"));
}

class FieldsTest : public testing::Test {
 protected:
  json::Value value_ =
      parsed(R"({"n": 3, "whole": 4.0, "half": 0.5, "huge": 18446744073709551615, "far": 1e300, "text": "t",
                                  "yes": true, "none": null, "list": [1], "child": {"depth": -2}})");
  json::Fields fields_{value_, kSource, "root"};

  template <typename F>
  static std::string refusal(F f) {
    try {
      f();
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
};

TEST_F(FieldsTest, GivesValuesOfTheRightType) {
  EXPECT_EQ(fields_.integer("n", 0, 3), 3);
  EXPECT_EQ(fields_.integer("whole", 4, 4), 4);
  EXPECT_EQ(fields_.number("n"), 3.0);
  EXPECT_EQ(fields_.number("half"), 0.5);
  EXPECT_EQ(fields_.text("text"), "t");
  EXPECT_TRUE(fields_.boolean("yes"));
  EXPECT_EQ(fields_.array("list").size(), 1u);
  EXPECT_EQ(fields_.child("child").integer("depth", -2, 0), -2);
  EXPECT_TRUE(fields_.has("n"));
  EXPECT_FALSE(fields_.has("none"));
  EXPECT_FALSE(fields_.has("missing"));
  EXPECT_EQ(fields_.find("none"), nullptr);
}

TEST_F(FieldsTest, FallsBackOnlyWhenAbsentOrNull) {
  EXPECT_EQ(fields_.integer_or("missing", 9, 0, 3), 9);
  EXPECT_EQ(fields_.integer_or("none", 9, 0, 3), 9);
  EXPECT_EQ(fields_.number_or("missing", 1.5), 1.5);
  EXPECT_EQ(fields_.text_or("none", "d"), "d");
  EXPECT_TRUE(fields_.boolean_or("missing", true));
  EXPECT_NE(refusal([&] { fields_.integer_or("text", 9, 0, 3); }), "accepted");
  EXPECT_NE(refusal([&] { fields_.number_or("yes", 9); }), "accepted");
  EXPECT_NE(refusal([&] { fields_.boolean_or("n", true); }), "accepted");
  EXPECT_NE(refusal([&] { fields_.text_or("list", ""); }), "accepted");
}

TEST_F(FieldsTest, NamesSourcePathAndBounds) {
  EXPECT_TRUE(mentions(refusal([&] { fields_.integer("n", 4, 9); }),
                       "request.json: root.n: found the number 3, expected a whole number from 4 to 9"))
      << refusal([&] { fields_.integer("n", 4, 9); });
  EXPECT_TRUE(mentions(refusal([&] { fields_.child("child").integer("depth", 0, 9); }), "root.child.depth"));
  EXPECT_TRUE(mentions(refusal([&] { fields_.text("missing"); }), "the field is missing"));
  EXPECT_TRUE(mentions(refusal([&] { fields_.text("none"); }), "found null"));
  EXPECT_TRUE(mentions(refusal([&] { json::Fields(parsed("[]"), kSource); }), "an object"));
  for (const char* key : {"half", "huge", "far", "text", "yes", "list", "child"}) {
    EXPECT_NE(refusal([&] {
                fields_.integer(key, std::numeric_limits<std::int64_t>::min(),
                                std::numeric_limits<std::int64_t>::max());
              }),
              "accepted")
        << key;
  }
  for (const char* key : {"n", "text", "list"}) {
    EXPECT_NE(refusal([&] { fields_.boolean(key); }), "accepted") << key;
    EXPECT_NE(refusal([&] { fields_.child(key); }), "accepted") << key;
  }
  EXPECT_NE(refusal([&] { fields_.array("child"); }), "accepted");
}

TEST(LfsPointer, IsNamed) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
  EXPECT_TRUE(json::is_lfs_pointer(pointer));
  EXPECT_FALSE(json::is_lfs_pointer("{}"));
  EXPECT_TRUE(mentions(refusal(pointer),
                       "request.json: found a Git LFS pointer instead of the file, expected JSON text; fetch"));
  EXPECT_TRUE(mentions(refusal("version 2"), "not valid JSON"));
}

TEST(Described, SaysWhatAValueIs) {
  EXPECT_EQ(json::described(parsed("null")), "null");
  EXPECT_EQ(json::described(parsed("false")), "false");
  EXPECT_EQ(json::described(parsed("-3")), "the number -3");
  EXPECT_EQ(json::described(parsed("0.25")), "the number 0.25");
  EXPECT_EQ(json::described(parsed("\"a\\nb\"")), "the text 'a\\x0ab'");
  EXPECT_EQ(json::described(parsed("[1, 2]")), "a list of 2");
  EXPECT_EQ(json::described(parsed("{\"a\": 1}")), "an object of 1 fields");
}

}  // namespace
}  // namespace zoetrope
