#include "runtime/text/byte_pairs.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

namespace zoetrope {
namespace {

std::array<TokenId, 256> identity() {
  std::array<TokenId, 256> tokens{};
  for (int b = 0; b < 256; ++b) {
    tokens[static_cast<std::size_t>(b)] = b;
  }
  return tokens;
}

std::vector<TokenId> encoded(const BytePairs& pairs, std::string_view word) {
  std::vector<TokenId> ids;
  pairs.encode(word, ids);
  return ids;
}

// The definition: while any pair can merge, merge the leftmost of those with the lowest rank.
std::vector<TokenId> by_definition(const std::vector<BytePairs::Merge>& merges, std::string_view word) {
  std::vector<TokenId> ids(word.begin(), word.end());
  for (;;) {
    std::size_t best_rank = merges.size(), best_at = 0;
    for (std::size_t at = 0; at + 1 < ids.size(); ++at) {
      for (std::size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank].left == ids[at] && merges[rank].right == ids[at + 1]) {
          best_rank = rank;
          best_at = at;
        }
      }
    }
    if (best_rank == merges.size()) {
      return ids;
    }
    ids[best_at] = merges[best_rank].whole;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
}

TEST(BytePairs, MergesTheEarliestLearnedFirst) {
  const BytePairs pairs(identity(), {{'b', 'c', 256}, {'a', 'b', 257}, {'a', 256, 258}});
  EXPECT_EQ(encoded(pairs, "abc"), (std::vector<TokenId>{258}));
  EXPECT_EQ(encoded(pairs, "abab"), (std::vector<TokenId>{257, 257}));
  EXPECT_EQ(encoded(pairs, "x"), (std::vector<TokenId>{'x'}));
  EXPECT_EQ(encoded(pairs, "xyz"), (std::vector<TokenId>{'x', 'y', 'z'}));
}

TEST(BytePairs, MergesFromTheLeft) {
  const BytePairs pairs(identity(), {{'a', 'a', 256}});
  EXPECT_EQ(encoded(pairs, "aaa"), (std::vector<TokenId>{256, 'a'}));
  EXPECT_EQ(encoded(pairs, "aaaa"), (std::vector<TokenId>{256, 256}));
}

TEST(BytePairs, WorksWithoutMergesAndWithAnyByte) {
  const BytePairs pairs(identity(), {});
  EXPECT_EQ(encoded(pairs, std::string_view("\x00\xFF", 2)), (std::vector<TokenId>{0, 255}));
}

TEST(BytePairs, EqualsTheDefinitionOnRandomVocabularies) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    // Tokens are strings, as in a real vocabulary: equal strings are one token.
    std::map<std::string, TokenId> ids;
    std::vector<std::string> spelled(256);
    for (int b = 0; b < 256; ++b) {
      spelled[static_cast<std::size_t>(b)] = std::string(1, static_cast<char>(b));
      ids[spelled[static_cast<std::size_t>(b)]] = b;
    }
    std::vector<TokenId> usable = {'a', 'b', 'c'};
    std::map<std::pair<TokenId, TokenId>, bool> seen;
    std::vector<BytePairs::Merge> merges;
    for (int m = 0; m < 25; ++m) {
      const TokenId left = usable[random() % usable.size()], right = usable[random() % usable.size()];
      const std::string whole = spelled[static_cast<std::size_t>(left)] + spelled[static_cast<std::size_t>(right)];
      if (std::exchange(seen[{left, right}], true)) {
        continue;
      }
      const auto [at, made] = ids.emplace(whole, static_cast<TokenId>(spelled.size()));
      if (made) {
        spelled.push_back(whole);
        usable.push_back(at->second);
      }
      merges.push_back({left, right, at->second});
    }
    const BytePairs pairs(identity(), merges);
    for (int w = 0; w < 20; ++w) {
      std::string word(1 + random() % 40, 'a');
      for (char& c : word) {
        c = static_cast<char>('a' + random() % 3);
      }
      EXPECT_EQ(encoded(pairs, word), by_definition(merges, word)) << word;
    }
  }
}

}  // namespace
}  // namespace zoetrope
