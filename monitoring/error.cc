#include "monitoring/error.h"

#include <fmt/format.h>

#include <cstdio>
#include <limits>

namespace zoetrope {
namespace {

std::string rendered(const Complaint& complaint) {
  std::string text = complaint.what;
  if (!complaint.found.empty()) {
    text += ": found " + complaint.found;
  }
  if (!complaint.expected.empty()) {
    text += (complaint.found.empty() ? ": expected " : ", expected ") + complaint.expected;
  }
  if (!complaint.remedy.empty()) {
    text += "; " + complaint.remedy;
  }
  return text;
}

// Length of the UTF-8 character that `text` begins with, 0 when it begins with none. A message must stay valid UTF-8
// whatever it quotes: it is written into JSON lines.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) {
    return 1;
  }
  const std::size_t bytes = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (bytes == 0 || text.size() < bytes) {
    return 0;
  }
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) {
      return 0;
    }
  }
  const bool overlong = (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xf0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xed && byte(1) >= 0xa0;
  const bool too_large = lead == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || too_large ? 0 : bytes;
}

// Appends `text` to `out`, control characters and bytes that are not UTF-8 escaped; the bytes of `text` that were
// taken.
std::size_t append_escaped(std::string& out, std::string_view text, std::size_t characters_max) {
  std::size_t at = 0;
  for (std::size_t kept = 0; at < text.size() && kept < characters_max; ++kept) {
    const std::size_t bytes = character_bytes(text.substr(at));
    const auto first = static_cast<unsigned char>(text[at]);
    if (bytes == 0 || first < 0x20 || first == 0x7f) {
      out += fmt::format("\\x{:02x}", first);
    } else {
      out += text.substr(at, bytes);
    }
    at += bytes == 0 ? 1 : bytes;
  }
  return at;
}

}  // namespace

Error::Error(Radius radius, const Complaint& complaint) : Error(radius, rendered(complaint)) {}

Error::Error(Radius radius, const std::string& message) : std::runtime_error(message), radius_(radius) {}

void refuse(Radius radius, Complaint complaint) { throw Error(radius, complaint); }

std::string quoted(std::string_view text, std::size_t characters_max) {
  std::string out = "'";
  const std::size_t taken = append_escaped(out, text, characters_max);
  return out + (taken < text.size() ? "...'" : "'");
}

std::string one_line(std::string_view text) {
  std::string out;
  append_escaped(out, text, std::numeric_limits<std::size_t>::max());
  return out;
}

void print_failure(std::string_view message) {
  const std::string line = fmt::format("zoetrope: {}\n", one_line(message));
  std::fwrite(line.data(), 1, line.size(), stderr);  // at once, so that lines of several ranks do not mix
}

}  // namespace zoetrope
