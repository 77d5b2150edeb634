// The rules of the header, one by one: every message names the tensor and the file, what was found and what was
// expected.
#include "runtime/checkpoint/safetensors.h"
#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

struct Result {
  std::vector<HeaderEntry> entries;
  std::vector<std::string> problems;
};

Result parse(const std::string& header, std::uint64_t data_bytes) {
  Problems problems;
  auto entries = parse_safetensors_header(header, data_bytes, "m.safetensors", problems);
  return {std::move(entries), problems.lines()};
}

std::string tensor(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

TEST(SafetensorsHeader, ReadsWhatIsRight) {
  const Result result =
      parse(R"({"__metadata__":{"format":"pt"},"b":)" + tensor("F8_E4M3", "[3]", "[8,11]") + R"(,"a":)" +
                tensor("BF16", "[2,2]", "[0,8]") + R"(,"empty":)" + tensor("F32", "[0,5]", "[8,8]") + "}   ",
            11);
  EXPECT_TRUE(result.problems.empty()) << result.problems.front();
  ASSERT_EQ(result.entries.size(), 3U);
  EXPECT_EQ(result.entries[0].name, "a");
  EXPECT_EQ(result.entries[0].type, StoredType::kBF16);
  EXPECT_EQ(result.entries[0].shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(result.entries[0].end, 8U);
  EXPECT_EQ(result.entries[1].name, "empty");
  EXPECT_EQ(result.entries[2].name, "b");
  EXPECT_EQ(result.entries[2].begin, 8U);
  const Result scalar = parse(R"({"s":)" + tensor("F32", "[]", "[0,4]") + "}", 4);
  EXPECT_TRUE(scalar.problems.empty());
  const Result none = parse("{}", 0);
  EXPECT_TRUE(none.problems.empty());
  EXPECT_TRUE(none.entries.empty());
}

TEST(SafetensorsHeader, KnowsEveryTypeOfTheFormat) {
  const std::vector<std::pair<std::string, int>> types = {
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},   {"I8", 8},    {"F8_E5M2", 8},
      {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16}, {"BF16", 16}, {"I32", 32},
      {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},    {"I64", 64}, {"U64", 64}};
  for (std::size_t i = 0; i < types.size(); ++i) {
    const auto& [name, bits] = types[i];
    const Result result = parse(R"({"t":)" + tensor(name, "[4]", "[0," + std::to_string(bits / 2) + "]") + "}",
                                static_cast<std::uint64_t>(bits) / 2);
    EXPECT_TRUE(result.problems.empty()) << name;
    ASSERT_EQ(result.entries.size(), 1U);
    EXPECT_EQ(stored_type_name(result.entries[0].type), name);
    EXPECT_EQ(stored_type_bits(result.entries[0].type), bits);
  }
}

struct Fault {
  std::string header;
  std::uint64_t data_bytes;
  std::vector<std::string> parts;
  bool usable = false;  // the tensor itself is whole
};

TEST(SafetensorsHeader, RefusesEveryFault) {
  const std::string two_to_62 = "4611686018427387904";
  const std::vector<Fault> faults = {
      {R"({"t":)" + tensor("BF16", "[4]", "[0,8]") + R"(,"u":)" + tensor("BF16", "[4]", "[6,14]") + "}",
       14,
       {"tensor 'u' in m.safetensors: data_offsets overlap", "[6, 14]", "a begin at 8, where tensor 't' ends"}},
      {R"({"t":)" + tensor("BF16", "[4]", "[0,8]") + R"(,"u":)" + tensor("BF16", "[4]", "[0,8]") + "}",
       8,
       {"tensor 'u' in m.safetensors: data_offsets overlap", "where tensor 't' ends"}},
      {R"({"t":)" + tensor("BF16", "[4]", "[0,8]") + R"(,"u":)" + tensor("BF16", "[4]", "[10,18]") + "}",
       18,
       {"tensor 'u' in m.safetensors: data_offsets leave a hole", "[10, 18]", "a begin at 8"},
       true},
      {R"({"u":)" + tensor("BF16", "[4]", "[2,10]") + "}",
       10,
       {"tensor 'u'", "leave a hole", "a begin at 0, where the header ends"},
       true},
      {R"({"u":)" + tensor("BF16", "[4]", "[8,0]") + "}",
       8,
       {"tensor 'u' in m.safetensors: data_offsets", "[8,0]", "0 <= begin <= end"}},
      {R"({"u":)" + tensor("BF16", "[4]", "[0,8]") + "}",
       6,
       {"tensor 'u' in m.safetensors: data_offsets reach beyond the end", "[0, 8]", "at most 6"}},
      {R"({"u":)" + tensor("BF16", "[4]", "[0,8]") + "}",
       9,
       {"m.safetensors: bytes after the last tensor", "9 bytes", "8, where"},
       true},
      {R"({"u":)" + tensor("BF16", "[5]", "[0,8]") + "}",
       8,
       {"tensor 'u' in m.safetensors: data_offsets", "8 bytes", "10 bytes for BF16 [5]"}},
      {R"({"u":)" + tensor("BF16", "[" + two_to_62 + ",8]", "[0,8]") + "}",
       8,
       {"tensor 'u'", "shape", "[" + two_to_62 + ", 8]", "fits in 64 bits for BF16"}},
      {R"({"u":)" + tensor("F4", "[3]", "[0,1]") + "}", 1, {"tensor 'u'", "whole bytes", "F4"}},
      {R"({"u":)" + tensor("BF16", "[-4]", "[0,8]") + "}",
       8,
       {"tensor 'u' in m.safetensors: shape", "[-4]", "none negative"}},
      {R"({"u":)" + tensor("BF16", "[4.0]", "[0,8]") + "}", 8, {"tensor 'u'", "shape", "whole numbers"}},
      {R"({"u":)" + tensor("BF16", "4", "[0,8]") + "}", 8, {"tensor 'u'", "shape", "the number 4"}},
      {R"({"u":)" + tensor("FP9", "[4]", "[0,8]") + "}", 8, {"tensor 'u' in m.safetensors: dtype", "'FP9'", "BF16"}},
      {R"({"u":{"shape":[4],"data_offsets":[0,8]}})", 8, {"tensor 'u'", "dtype", "missing"}},
      {R"({"u":{"dtype":"BF16","data_offsets":[0,8]}})", 8, {"tensor 'u'", "shape", "missing"}},
      {R"({"u":{"dtype":"BF16","shape":[4]}})", 0, {"tensor 'u'", "data_offsets", "missing"}},
      {R"({"u":)" + tensor("BF16", "[4]", "[0,8,9]") + "}", 8, {"tensor 'u'", "[0,8,9]"}},
      {R"({"u":)" + tensor("BF16", "[4]", "[-8,0]") + "}", 8, {"tensor 'u'", "[-8,0]"}},
      {R"({"u":)" + tensor("BF16", "[4]", "[0,18446744073709551615]") + "}",
       8,
       {"tensor 'u'", "18446744073709551615 bytes", "8 bytes for BF16"}},
      {R"({"u":7})", 0, {"tensor 'u' in m.safetensors: its entry", "the number 7", "an object"}},
      {R"({"a":)" + tensor("U8", "[1]", "[0,1]") + R"(,"u":)" + tensor("BF16", "[4]", "[1,9]") + "}",
       9,
       {"tensor 'u'", "[1, 9]", "multiple of 2 bytes for BF16"}},
      {R"({"__metadata__":{"format":1}})", 0, {"m.safetensors: __metadata__", "an object of texts"}},
      {R"({"u":)" + tensor("BF16", "[4]", "[0,8]") + R"(,"u":)" + tensor("BF16", "[4]", "[0,8]") + "}",
       8,
       {"m.safetensors: header", "'u' stands twice"}},
      {R"( {"u":)" + tensor("BF16", "[4]", "[0,8]") + "}", 8, {"m.safetensors: header", "starts with the first byte"}},
      {"[]", 0, {"m.safetensors: header", "a list of 0"}},
      {"", 0, {"m.safetensors: header"}},
      {"{", 0, {"m.safetensors: header: not valid JSON"}},
      {"{\"\xff\":1}", 0, {"m.safetensors: header: not valid JSON"}},
      {std::string(100, '['), 0, {"m.safetensors: header: not valid JSON"}},
  };
  for (const Fault& fault : faults) {
    SCOPED_TRACE(fault.header);
    const Result result = parse(fault.header, fault.data_bytes);
    ASSERT_FALSE(result.problems.empty());
    expect_parts(result.problems.front(), fault.parts);
    for (const HeaderEntry& entry : result.entries) {
      if (entry.name == "u") {
        EXPECT_EQ(entry.whole, fault.usable);
      }
    }
  }
}

// One broken tensor does not hide the next one's fault, and its bytes still count as covered.
TEST(SafetensorsHeader, ListsAllFaults) {
  const Result result = parse(R"({"a":)" + tensor("FP9", "[4]", "[0,8]") + R"(,"b":)" +
                                  tensor("BF16", "[3]", "[8,16]") + R"(,"c":)" + tensor("BF16", "[4]", "[16,24]") + "}",
                              24);
  ASSERT_EQ(result.problems.size(), 2U);
  expect_parts(result.problems[0], {"tensor 'a'", "dtype"});
  expect_parts(result.problems[1], {"tensor 'b'", "6 bytes for BF16 [3]"});
  ASSERT_EQ(result.entries.size(), 3U);
  EXPECT_FALSE(result.entries[0].whole);
  EXPECT_FALSE(result.entries[1].whole);
  EXPECT_TRUE(result.entries[2].whole);
}

TEST(SafetensorsHeader, MessagesStayPrintable) {
  const Result result = parse("{\"x\\u0001\\n" + std::string(5000, 'y') + "\":7}", 0);
  ASSERT_EQ(result.problems.size(), 1U);
  expect_parts(result.problems[0], {"tensor 'x\\x01\\x0ayyy", "...'"});
  EXPECT_LT(result.problems[0].size(), 500U);
}

}  // namespace
}  // namespace zoetrope::test
