#include "runtime/text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "monitoring/check.h"
#include "runtime/text/utf8.h"

namespace zoetrope {
namespace {

struct Range {
  char32_t first, last;
};

// Combining marks (and one composed letter, U+11938, with its second half) that are younger than Unicode 9.0. The
// reference's normaliser takes each for a starter that composes with nothing.
constexpr Range kYoungerMarks[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}};

bool is_younger_mark(char32_t c) {
  const Range* after = std::upper_bound(std::begin(kYoungerMarks), std::end(kYoungerMarks), c,
                                        [](char32_t value, const Range& range) { return value < range.first; });
  return after != std::begin(kYoungerMarks) && c <= std::prev(after)->last;
}

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Everything below U+0300 is normal already: no marks, and all precomposed letters are compositions.
bool is_plain(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0xCC; });
}

// One stretch without younger marks: decomposed as it is read, put into canonical order, composed, written out.
class Stretch {
 public:
  void add(char32_t c) {
    utf8proc_int32_t parts[8];  // the longest canonical decomposition has 4
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 8, UTF8PROC_DECOMPOSE, &boundary);
    check(count >= 0 && count <= 8, "a code point decomposes into more than 8");
    points_.insert(points_.end(), parts, parts + count);
  }

  void flush(std::string& out) {
    order_marks();
    const auto count = utf8proc_normalize_utf32(points_.data(), static_cast<utf8proc_ssize_t>(points_.size()),
                                                static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      append_utf8(out, static_cast<char32_t>(points_[static_cast<std::size_t>(i)]));
    }
    points_.clear();
  }

 private:
  // utf8proc's own ordering moves marks one place at a time: quadratic in the length of a run.
  void order_marks() {
    const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
    for (auto at = points_.begin(); at != points_.end();) {
      const auto first = std::find_if(at, points_.end(), is_mark);
      at = std::find_if_not(first, points_.end(), is_mark);
      if (at - first > 1) {
        std::stable_sort(first, at, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
      }
    }
  }

  std::vector<utf8proc_int32_t> points_;
};

}  // namespace

std::string nfc(std::string_view valid_utf8) {
  if (is_plain(valid_utf8)) {
    return std::string(valid_utf8);
  }
  std::string out;
  out.reserve(valid_utf8.size());
  Stretch stretch;
  for (std::size_t at = 0; at < valid_utf8.size();) {
    const CodePoint c = code_point_at(valid_utf8, at);
    at += c.bytes;
    if (is_younger_mark(c.value)) {
      stretch.flush(out);
      append_utf8(out, c.value);
      continue;
    }
    stretch.add(c.value);
  }
  stretch.flush(out);
  return out;
}

}  // namespace zoetrope
