// Byte pair encoding of one word: the earliest learned merge first, the leftmost among equals, in n log n steps.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace zoetrope {

using TokenId = std::int32_t;

class BytePairs {
 public:
  struct Merge {
    TokenId left, right, whole;
  };

  // `byte_tokens[b]` is the token of the single byte b; `merges` in the order they were learned.
  BytePairs(const std::array<TokenId, 256>& byte_tokens, const std::vector<Merge>& merges);

  // Appends the tokens of `word`, any bytes.
  void encode(std::string_view word, std::vector<TokenId>& out) const;

 private:
  // A slot of the open hash table from a pair of tokens to its merge. rank < 0: free.
  struct Slot {
    TokenId left = 0, right = 0, whole = 0;
    std::int32_t rank = -1;
  };

  const Slot* find(TokenId left, TokenId right) const;  // nullptr: this pair is never merged
  std::size_t home(TokenId left, TokenId right) const;

  std::array<TokenId, 256> byte_tokens_;
  std::vector<Slot> slots_;  // a power of two, at most half full
};

}  // namespace zoetrope
