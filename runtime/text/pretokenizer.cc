#include "runtime/text/pretokenizer.h"

#include "runtime/text/characters.h"
#include "runtime/text/utf8.h"

namespace zoetrope {
namespace {

struct Character {
  char32_t value;
  std::size_t end;  // where the next one starts
  CharacterClass kind;
};

Character read(std::string_view text, std::size_t at) {
  const CodePoint c = code_point_at(text, at);
  return {c.value, at + c.bytes, character_class(c.value)};
}

bool is_line_break(char32_t c) { return c == '\r' || c == '\n'; }

std::size_t skip(std::string_view text, std::size_t at, CharacterClass kind) {
  while (at < text.size()) {
    const Character c = read(text, at);
    if (c.kind != kind) {
      break;
    }
    at = c.end;
  }
  return at;
}

std::size_t skip_line_breaks(std::string_view text, std::size_t at) {
  while (at < text.size() && is_line_break(static_cast<unsigned char>(text[at]))) {
    ++at;
  }
  return at;
}

// Lower case of the characters that ignoring case makes equal to an ASCII letter of the contractions; U+017F is the
// long s. (K's other form, the Kelvin sign, is in none of them.)
char32_t folded(char32_t c) { return c == 0x17F ? U's' : c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; }

// (?i:'s|'t|'re|'ve|'m|'ll|'d) at an apostrophe, or `at` when there is none.
std::size_t contraction_end(std::string_view text, std::size_t at) {
  if (at + 1 >= text.size()) {
    return at;
  }
  const Character first = read(text, at + 1);
  const char32_t a = folded(first.value);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') {
    return first.end;
  }
  if (first.end < text.size()) {
    const Character second = read(text, first.end);
    const char32_t b = folded(second.value);
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) {
      return second.end;
    }
  }
  return at;
}

// \s*[\r\n]+ | \s+(?!\S) | \s+ : up to the last line break of the run; else all but the last blank, which belongs to
// what follows; else all.
std::size_t blank_end(std::string_view text, std::size_t at) {
  std::size_t end = at, after_line_break = at, last_start = at;
  while (end < text.size()) {
    const Character c = read(text, end);
    if (c.kind != CharacterClass::kSpace) {
      break;
    }
    last_start = end;
    end = c.end;
    if (is_line_break(c.value)) {
      after_line_break = end;
    }
  }
  if (after_line_break > at) {
    return after_line_break;
  }
  return end == text.size() || last_start == at ? end : last_start;
}

}  // namespace

std::size_t next_word(std::string_view text, std::size_t at) {
  const Character first = read(text, at);
  if (first.value == '\'') {
    if (const std::size_t end = contraction_end(text, at); end > at) {
      return end;
    }
  }
  if (first.kind == CharacterClass::kLetter) {
    return skip(text, first.end, CharacterClass::kLetter);
  }
  if (first.kind == CharacterClass::kNumber) {
    return first.end;
  }
  const bool has_second = first.end < text.size();
  const CharacterClass second = has_second ? read(text, first.end).kind : CharacterClass::kSpace;
  if (second == CharacterClass::kLetter && !is_line_break(first.value)) {
    return skip(text, first.end, CharacterClass::kLetter);
  }
  if (first.kind == CharacterClass::kOther || (first.value == ' ' && second == CharacterClass::kOther)) {
    return skip_line_breaks(text, skip(text, first.end, CharacterClass::kOther));
  }
  return blank_end(text, at);
}

}  // namespace zoetrope
