#include "runtime/text/byte_pairs.h"

#include <bit>
#include <queue>
#include <tuple>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

// One token of the word being merged, linked to its neighbours by index.
struct Symbol {
  TokenId token;
  std::int32_t previous, next;  // -1 at the ends
  bool gone = false;            // merged into its left neighbour
};

struct Candidate {
  std::int32_t rank;
  std::int32_t left;  // index of the left symbol
  TokenId whole;
  bool operator>(const Candidate& other) const { return std::tie(rank, left) > std::tie(other.rank, other.left); }
};

}  // namespace

BytePairs::BytePairs(const std::array<TokenId, 256>& byte_tokens, const std::vector<Merge>& merges)
    : byte_tokens_(byte_tokens), slots_(std::bit_ceil(2 * merges.size() + 2)) {
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    std::size_t at = home(merge.left, merge.right);
    while (slots_[at].rank >= 0) {
      check(slots_[at].left != merge.left || slots_[at].right != merge.right, "a merge stands twice");
      at = (at + 1) & (slots_.size() - 1);
    }
    slots_[at] = {merge.left, merge.right, merge.whole, static_cast<std::int32_t>(rank)};
  }
}

std::size_t BytePairs::home(TokenId left, TokenId right) const {
  const auto key =
      static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  return static_cast<std::size_t>(key * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1);
}

const BytePairs::Slot* BytePairs::find(TokenId left, TokenId right) const {
  for (std::size_t at = home(left, right); slots_[at].rank >= 0; at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].left == left && slots_[at].right == right) {
      return &slots_[at];
    }
  }
  return nullptr;
}

void BytePairs::encode(std::string_view word, std::vector<TokenId>& out) const {
  if (word.size() == 1) {
    out.push_back(byte_tokens_[static_cast<unsigned char>(word[0])]);
    return;
  }
  check(word.size() < (std::size_t{1} << 31), "a word of 2 GiB");
  const auto size = static_cast<std::int32_t>(word.size());
  std::vector<Symbol> symbols(word.size());
  for (std::int32_t i = 0; i < size; ++i) {
    symbols[i] = {byte_tokens_[static_cast<unsigned char>(word[i])], i - 1, i + 1 < size ? i + 1 : -1};
  }
  std::vector<Candidate> storage;
  storage.reserve(word.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates({}, std::move(storage));
  const auto consider = [&](std::int32_t left) {
    if (left < 0 || symbols[left].next < 0) {
      return;
    }
    if (const Slot* slot = find(symbols[left].token, symbols[symbols[left].next].token)) {
      candidates.push({slot->rank, left, slot->whole});
    }
  };
  for (std::int32_t i = 0; i + 1 < size; ++i) {
    consider(i);
  }
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.left];
    if (left.gone || left.next < 0) {
      continue;
    }
    Symbol& right = symbols[left.next];
    const Slot* slot = find(left.token, right.token);
    if (slot == nullptr || slot->rank != best.rank) {
      continue;  // one of the two has been merged since
    }
    left.token = best.whole;
    right.gone = true;
    left.next = right.next;
    if (right.next >= 0) {
      symbols[right.next].previous = best.left;
    }
    consider(left.previous);
    consider(best.left);
  }
  for (std::int32_t i = 0; i >= 0; i = symbols[i].next) {
    out.push_back(symbols[i].token);
  }
}

}  // namespace zoetrope
