#include "runtime/text/characters.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace zoetrope {
namespace {

TEST(CharacterClass, KnowsTheKinds) {
  for (const char32_t letter : {U'a', U'Z', U'\u00E9', U'\u4E2D', U'\u02B0', U'\u01C5', U'\U0002EBF0', U'\uA7CB'}) {
    EXPECT_EQ(character_class(letter), CharacterClass::kLetter) << std::uint32_t(letter);
  }
  for (const char32_t number : {U'0', U'\u00B2', U'\u00BD', U'\u2163', U'\u0661', U'\U0001E5F1'}) {
    EXPECT_EQ(character_class(number), CharacterClass::kNumber) << std::uint32_t(number);
  }
  for (const char32_t space : {U' ', U'\t', U'\n', U'\r', U'\v', U'\u0085', U'\u00A0', U'\u2028', U'\u3000'}) {
    EXPECT_EQ(character_class(space), CharacterClass::kSpace) << std::uint32_t(space);
  }
  for (const char32_t other :
       {U'!', U'\0', U'\u001C', U'\u0301', U'\u200B', U'\u180E', U'\uFEFF', U'\uFFFF', U'\U0001F642', U'\U0010FFFF'}) {
    EXPECT_EQ(character_class(other), CharacterClass::kOther) << std::uint32_t(other);
  }
}

// Numbers and a hash (FNV-1a over 0 letter, 1 number, 2 space, 3 other) recorded from the regular expression engine of
// the published tokenizer, character by character.
TEST(CharacterClass, IsThatOfThePublishedTokenizerForEveryCodePoint) {
  std::size_t counts[4] = {};
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) {
      continue;
    }
    const CharacterClass kind = character_class(c);
    const std::uint64_t code = kind == CharacterClass::kLetter   ? 0
                               : kind == CharacterClass::kNumber ? 1
                               : kind == CharacterClass::kSpace  ? 2
                                                                 : 3;
    ++counts[code];
    hash = (hash ^ code) * 0x100000001b3;
  }
  EXPECT_EQ(counts[0], 141028u);
  EXPECT_EQ(counts[1], 1911u);
  EXPECT_EQ(counts[2], 25u);
  EXPECT_EQ(hash, 0x39cb53b5ed979e6au);
}

}  // namespace
}  // namespace zoetrope
