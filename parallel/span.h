// The one place that knows where the KV of a sequence lives and who computes its rows (docs/one-answer.md rule 4).
// Standard library only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace zoetrope {

// A sequence spans `members` consecutive members of the ring (a power of two <= 64), beginning at `first_member` and
// wrapping; page p lives on member p mod members of the span, so a member owns whole classes of pages. Rows are
// computed in runs of kRunRows tokens, dealt over the span in turn whoever owns their pages: every member has about the
// same number of rows of any chunk, early ones and late ones alike.
struct Span {
  int members = 1;
  int first_member = 0;
  int ring = 1;  // members of the whole ring

  static constexpr std::int64_t kRunRows = 32;

  int member_at(int slot) const { return (first_member + slot) % ring; }
  int slot_of(int member) const { return (member - first_member + ring) % ring; }
  bool contains(int member) const { return slot_of(member) < members; }

  // The ring member that owns page `page`.
  int owner(std::int64_t page) const { return member_at(static_cast<int>(page % members)); }
  // Pages of the first `pages` ones that the member in `slot` owns.
  std::int64_t pages_of(int slot, std::int64_t pages) const {
    return slot < pages ? (pages - slot - 1) / members + 1 : 0;
  }

  // True where one host has all members, hosts[m] being member m's; false where `hosts` is empty: nothing is known.
  bool on_one_host(std::span<const std::int32_t> hosts) const {
    bool one = !hosts.empty();
    for (int slot = 1; one && slot < members; ++slot) {
      one = hosts[static_cast<std::size_t>(member_at(slot))] == hosts[static_cast<std::size_t>(first_member)];
    }
    return one;
  }

  // The ring member that computes the row of token `index`.
  int computes(std::int64_t index) const { return member_at(static_cast<int>(index / kRunRows % members)); }
  // Rows of tokens [first, end) that the member in `slot` computes.
  std::int64_t rows_of(int slot, std::int64_t first, std::int64_t end) const {
    return first < end ? rows_before(slot, end) - rows_before(slot, first) : 0;
  }

  bool operator==(const Span&) const = default;

 private:
  std::int64_t rows_before(int slot, std::int64_t end) const {
    const std::int64_t round = kRunRows * members;
    return end / round * kRunRows + std::clamp<std::int64_t>(end % round - slot * kRunRows, 0, kRunRows);
  }
};

}  // namespace zoetrope
