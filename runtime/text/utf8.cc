#include "runtime/text/utf8.h"

#include <fmt/format.h>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

unsigned byte_at(std::string_view text, std::size_t at) { return static_cast<unsigned char>(text[at]); }

// What the bytes at a position are: a whole code point, an ill-formed part, or the beginning of something unfinished.
struct Sequence {
  enum class Kind { kWhole, kIllFormed, kUnfinished } kind;
  std::size_t bytes;
};

// Table 3-7 of the Unicode standard: the first continuation byte has its own bounds after E0, ED, F0 and F4.
Sequence sequence_at(std::string_view text, std::size_t at) {
  const unsigned lead = byte_at(text, at);
  if (lead < 0x80) {
    return {Sequence::Kind::kWhole, 1};
  }
  if (lead < 0xC2 || lead > 0xF4) {
    return {Sequence::Kind::kIllFormed, 1};
  }
  const std::size_t bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t k = 1; k < bytes; ++k) {
    if (at + k == text.size()) {
      return {Sequence::Kind::kUnfinished, k};
    }
    if (const unsigned c = byte_at(text, at + k); c < low || c > high) {
      return {Sequence::Kind::kIllFormed, k};
    }
    low = 0x80;
    high = 0xBF;
  }
  return {Sequence::Kind::kWhole, bytes};
}

// Offset of the first byte that is not valid, or the size.
std::size_t valid_bytes(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Sequence sequence = sequence_at(text, at);
    if (sequence.kind != Sequence::Kind::kWhole) {
      return at;
    }
    at += sequence.bytes;
  }
  return at;
}

}  // namespace

CodePoint code_point_at(std::string_view valid, std::size_t at) {
  const unsigned lead = byte_at(valid, at);
  if (lead < 0x80) {
    return {lead, 1};
  }
  const std::size_t bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t value = lead & (0x7Fu >> bytes);
  for (std::size_t k = 1; k < bytes; ++k) {
    value = value << 6 | (byte_at(valid, at + k) & 0x3F);
  }
  return {value, bytes};
}

bool is_valid_utf8(std::string_view text) { return valid_bytes(text) == text.size(); }

void require_utf8(std::string_view text, std::string_view what) {
  if (const std::size_t wrong = valid_bytes(text); wrong < text.size()) {
    refuse(Radius::kRequest, {fmt::format("{} is not valid UTF-8", what),
                              fmt::format("byte 0x{:02x} at offset {}", byte_at(text, wrong), wrong), "UTF-8 text",
                              "convert the text to UTF-8"});
  }
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

std::size_t append_repaired(std::string& out, std::string_view bytes, bool last) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const Sequence sequence = sequence_at(bytes, at);
    if (sequence.kind == Sequence::Kind::kUnfinished && !last) {
      break;
    }
    out += sequence.kind == Sequence::Kind::kWhole ? bytes.substr(at, sequence.bytes) : kReplacement;
    at += sequence.bytes;
  }
  return at;
}

}  // namespace zoetrope
