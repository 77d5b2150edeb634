// The one place that knows where the KV of a sequence lives (docs/one-answer.md rules 4 and 5). Standard library only.
#pragma once

#include <cstdint>

namespace zoetrope {

// A sequence spans `members` consecutive members of the ring (a power of two <= 64), beginning at `first_member` and
// wrapping; page p lives on member p mod members of the span, so a member owns whole classes of pages.
struct Span {
  int members = 1;
  int first_member = 0;
  int ring = 1;  // members of the whole ring

  // The ring member that owns page `page`.
  int owner(std::int64_t page) const { return (first_member + static_cast<int>(page % members)) % ring; }
  bool contains(int member) const { return (member - first_member + ring) % ring < members; }
  bool operator==(const Span&) const = default;
};

}  // namespace zoetrope
