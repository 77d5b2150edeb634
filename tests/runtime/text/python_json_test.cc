#include "runtime/text/python_json.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace zoetrope {
namespace {

std::string printed(std::string_view text) { return to_python_json(json::parse(text, {"test", Radius::kRequest})); }

// repr() of Python 3.
TEST(PythonFloat, WritesTheShortestDigits) {
  const std::vector<std::pair<double, std::string>> rows = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {-2.5, "-2.5"},
      {0.1, "0.1"},
      {1.0 / 3, "0.3333333333333333"},
      {0.30000000000000004, "0.30000000000000004"},
      {0.0001, "0.0001"},
      {0.00012345, "0.00012345"},
      {0.00001, "1e-05"},
      {1.5e-5, "1.5e-05"},
      {100000.0, "100000.0"},
      {123456789012345.0, "123456789012345.0"},
      {1234567890123456.0, "1234567890123456.0"},
      {9999999999999998.0, "9999999999999998.0"},
      {1e16, "1e+16"},
      {12345678901234567.0, "1.2345678901234568e+16"},
      {1e22, "1e+22"},
      {1e23, "1e+23"},
      {1.5e300, "1.5e+300"},
      {5e-324, "5e-324"},
      {1.7976931348623157e308, "1.7976931348623157e+308"},
      {123.456, "123.456"},
      {-1e-7, "-1e-07"},
      {std::numeric_limits<double>::infinity(), "Infinity"},
      {-std::numeric_limits<double>::infinity(), "-Infinity"},
      {std::numeric_limits<double>::quiet_NaN(), "NaN"},
  };
  for (const auto& [value, expected] : rows) {
    EXPECT_EQ(python_float(value), expected);
  }
}

TEST(ToPythonJson, WritesWhatPythonWrites) {
  EXPECT_EQ(printed("{ \"b\":1,\"a\" :[ true,null , {} , [ ] ],\"\":-7}"),
            "{\"b\": 1, \"a\": [true, null, {}, []], \"\": -7}");
  EXPECT_EQ(printed("18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(printed("[-9223372036854775808, 1.0, 3e8]"), "[-9223372036854775808, 1.0, 300000000.0]");
}

TEST(ToPythonJson, EscapesAsPythonWithoutAscii) {
  EXPECT_EQ(printed(R"("\" \\ \/ \b \f \n \r \t \u0000 \u001f \u007f")"),
            "\"\\\" \\\\ / \\b \\f \\n \\r \\t \\u0000 \\u001f \x7f\"");
  EXPECT_EQ(printed("\"<b>&amp;</b> '\\u00e9\\u2028\\ud83d\\ude42\""),
            "\"<b>&amp;</b> '\xC3\xA9\xE2\x80\xA8\xF0\x9F\x99\x82\"");
  EXPECT_EQ(printed("{\"\\n\": 0}"), "{\"\\n\": 0}");
}

}  // namespace
}  // namespace zoetrope
