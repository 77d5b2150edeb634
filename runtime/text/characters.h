// The character classes of the pre-tokenizer's pattern, as the regular expression engine of the published tokenizer
// sees them (Unicode 16.0).
#pragma once

namespace zoetrope {

enum class CharacterClass : unsigned char {
  kLetter,  // \p{L}
  kNumber,  // \p{N}
  kSpace,   // \s, that is the property White_Space
  kOther,   // [^\s\p{L}\p{N}]
};

CharacterClass character_class(char32_t code_point);

}  // namespace zoetrope
