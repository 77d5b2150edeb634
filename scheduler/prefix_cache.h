// Pages that hold the KV of prefixes: what was computed once serves every later prompt that begins with the same tokens
// and the same media. A tree of pages for each span, since a page lies where the span of its sequence put it. Pure
// bookkeeping.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "parallel/span.h"
#include "scheduler/page_pool.h"
#include "scheduler/request.h"

namespace zoetrope {

// What a sequence says: two of them have the same KV as far as their contents are equal from the first token on.
struct Content {
  std::vector<std::int32_t> tokens;
  std::vector<UnitSpan> units;  // media behind the placeholder tokens, in order
};

// Tokens from `first` on, up to `end`, that are equal in a and b, the media behind them included. The units of both
// before `first` must be equal or not reach beyond it.
std::int64_t equal_tokens(const Content& a, const Content& b, std::int64_t first, std::int64_t end);

class PrefixCache {
 public:
  using NodeId = std::uint64_t;  // never used again
  static constexpr NodeId kRoot = 0;

  // The pools of all ring members; they outlive the cache.
  explicit PrefixCache(std::vector<PagePool>& pools) : pools_(pools) {}
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  struct Match {
    Span span;
    std::int64_t tokens = 0;          // whole pages and the equal rows of one page more
    std::vector<std::int32_t> pages;  // ids of the whole pages
    std::int32_t rest = -1;           // id of the page whose first tokens % 256 rows are equal, or -1
    NodeId node = kRoot;              // of the last whole page
  };
  // The longest prefix of `content` that is kept, of at most tokens_max tokens: in any span (the first found on a tie),
  // or in one.
  Match longest(const Content& content, std::int64_t tokens_max) const;
  Match longest_in(const Span& span, const Content& content, std::int64_t tokens_max) const;

  // Keeps the page with tokens [256 * index, end) of a sequence, whose page before is `parent` (kRoot for the first).
  // Returns its node; kRoot when the same content is kept there already, in another page, or when `parent` is gone.
  NodeId add(const Span& span, NodeId parent, const Content& content, std::int64_t index, std::int64_t end,
             std::int32_t page);
  bool has(NodeId node) const { return node == kRoot || nodes_.contains(node); }
  // The page of the node and those before it were used just now.
  void touch(NodeId node);
  // Forgets the page and all that follow it.
  void drop(NodeId node);

  // Forgets pages that nobody uses until one more of this member's pages is free: least recently used first, tails
  // before what they stand on. False when there is none.
  bool reclaim(int member);

  std::size_t kept() const { return nodes_.size(); }
  // Keepers of every page by (member, id). For tests.
  std::map<std::pair<int, std::int32_t>, std::int32_t> keepers() const;

 private:
  struct Node {
    Span span;
    NodeId parent = kRoot;
    std::vector<NodeId> children;
    std::int64_t index = 0;  // of the page
    Content content;         // the tokens of this page only; units that reach into it, at their place in the sequence
    std::int32_t page = 0;
    std::uint64_t used = 0;
    std::int64_t tokens() const { return static_cast<std::int64_t>(content.tokens.size()); }
  };

  using Place = std::pair<int, int>;  // members, first member
  std::vector<NodeId>& children_of(const Span& span, NodeId parent);
  const std::vector<NodeId>* children_of(const Span& span, NodeId parent) const;
  std::int64_t equal_in(const Node& node, const Content& content, std::int64_t tokens_max) const;
  PagePool& pool_of(const Node& node) { return pools_[static_cast<std::size_t>(node.span.owner(node.index))]; }
  const PagePool& pool_of(const Node& node) const {
    return pools_[static_cast<std::size_t>(node.span.owner(node.index))];
  }
  void mark(NodeId id, std::uint64_t used);

  std::vector<PagePool>& pools_;
  std::unordered_map<NodeId, Node> nodes_;
  std::map<Place, std::vector<NodeId>> roots_;
  std::map<Place, Span> spans_;
  std::set<std::pair<std::uint64_t, NodeId>> leaves_;  // by last use
  NodeId next_ = kRoot + 1;
  std::uint64_t clock_ = 0;  // counts uses
};

}  // namespace zoetrope
