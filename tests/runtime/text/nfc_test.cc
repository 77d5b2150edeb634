#include "runtime/text/nfc.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

#include "runtime/text/utf8.h"

namespace zoetrope {
namespace {

std::string utf8(const std::u32string& points) {
  std::string out;
  for (const char32_t c : points) {
    append_utf8(out, c);
  }
  return out;
}

TEST(Nfc, ComposesAsThePublishedNormaliser) {
  const std::vector<std::pair<std::u32string, std::u32string>> rows = {
      {U"", U""},
      {U"plain \u00E9\u017F", U"plain \u00E9\u017F"},
      {U"e\u0301", U"\u00E9"},
      {U"o\u0302\u0323", U"\u1ED9"},
      {U"\u1100\u1161\u11A8", U"\uAC01"},
      {U"\uAC00\u11A8", U"\uAC01"},
      {U"\u0344", U"\u0308\u0301"},
      {U"\u212B", U"\u00C5"},
      {U"\u0958", U"\u0915\u093C"},  // excluded from composition
      {U"\u2ADC", U"\u2ADD\u0338"},
      {U"\uFB1D", U"\u05D9\u05B4"},
      {U"\U0001D15E", U"\U0001D157\U0001D165"},
      {U"a\u0301\u0323\u0301\u0323\u0301\u0323", U"\u1EA1\u0323\u0323\u0301\u0301\u0301"},
      {U"\u0301x", U"\u0301x"},
      {U"\u0B47\u0B3E", U"\u0B4B"},
      {U"\u1E9B\u0323", U"\u1E9B\u0323"},
      {U"\u09C7\u09BE\u0301", U"\u09CB\u0301"},
      // Younger than Unicode 9.0: left where they stand, and in the way of what follows.
      {U"\U00011935\U00011930", U"\U00011935\U00011930"},
      {U"\U00011938", U"\U00011938"},
      {U"e\u1DF9\u0301", U"e\u1DF9\u0301"},
      {U"e\u1DF6\u0301", U"e\u1DF6\u0301"},
  };
  for (const auto& [text, expected] : rows) {
    EXPECT_EQ(nfc(utf8(text)), utf8(expected)) << testing::PrintToString(utf8(text));
  }
}

std::uint64_t hash_of_all(const std::u32string& before, const std::u32string& after) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) {
      continue;
    }
    for (const char byte : nfc(utf8(before + c + after))) {
      hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
    }
  }
  return hash;
}

// Hashes (FNV-1a) recorded from the published normaliser: every code point after a letter and between marks.
TEST(Nfc, IsThatOfThePublishedNormaliserForEveryCodePoint) {
  EXPECT_EQ(hash_of_all(U"q", U"\u0301\u0323"), 0x0f96f6fe950aed77u);
  EXPECT_EQ(hash_of_all(U"e\u0323", U"\u0308a"), 0xa9b15b5f1d7d8a8au);
}

double seconds(std::size_t marks) {
  std::string text = "a";
  while (text.size() < 2 * marks) {
    text += "\xCC\x81\xCC\xA3";  // classes 230 and 220 in turn: the worst order
  }
  const std::clock_t start = std::clock();
  EXPECT_FALSE(nfc(text).empty());
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

TEST(Nfc, TakesTimeNearLinearInARunOfMarks) {
  EXPECT_LT(seconds(1'000'000), 9.0 * seconds(250'000) + 0.05);  // quadratic would be 16 times
}

}  // namespace
}  // namespace zoetrope
