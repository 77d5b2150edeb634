// UTF-8 read and repaired byte by byte: nothing here allocates more than its result or looks at a byte twice.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace zoetrope {

struct CodePoint {
  char32_t value;
  std::size_t bytes;  // 1..4
};

// The code point that starts at `at` of a text known to be valid UTF-8.
CodePoint code_point_at(std::string_view valid, std::size_t at);

// Valid as RFC 3629 means it: no overlong form, no surrogate, nothing above U+10FFFF.
bool is_valid_utf8(std::string_view text);

// Throws Error(kRequest) naming `what` and the offset of the first wrong byte.
void require_utf8(std::string_view text, std::string_view what);

void append_utf8(std::string& out, char32_t code_point);

// Appends `bytes` to `out` with each maximal ill-formed part replaced by one U+FFFD, as Python's errors="replace" does.
// Unless `last`, an unfinished but so far valid sequence at the end is left unread. Returns the bytes read.
std::size_t append_repaired(std::string& out, std::string_view bytes, bool last);

}  // namespace zoetrope
