#include "scheduler/prefix_cache.h"

#include <algorithm>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

// The first unit that reaches beyond `token`.
std::vector<UnitSpan>::const_iterator unit_beyond(const std::vector<UnitSpan>& units, std::int64_t token) {
  return std::partition_point(units.begin(), units.end(),
                              [&](const UnitSpan& u) { return u.first_token + u.tokens <= token; });
}

// The first token from `first` on, at most `end`, where the media of a and b part.
std::int64_t media_part(const std::vector<UnitSpan>& a, const std::vector<UnitSpan>& b, std::int64_t first,
                        std::int64_t end) {
  auto x = unit_beyond(a, first), y = unit_beyond(b, first);
  for (; x != a.end() && y != b.end() && *x == *y && x->first_token < end; ++x, ++y) {
  }
  if (x != a.end()) {
    end = std::min(end, std::max(first, x->first_token));
  }
  if (y != b.end()) {
    end = std::min(end, std::max(first, y->first_token));
  }
  return end;
}

}  // namespace

std::int64_t equal_tokens(const Content& a, const Content& b, std::int64_t first, std::int64_t end) {
  end = std::min({end, static_cast<std::int64_t>(a.tokens.size()), static_cast<std::int64_t>(b.tokens.size())});
  if (end <= first) {
    return 0;
  }
  const auto from = a.tokens.begin() + first;
  const auto part = std::mismatch(from, a.tokens.begin() + end, b.tokens.begin() + first).first - from;
  return media_part(a.units, b.units, first, first + part) - first;
}

std::vector<PrefixCache::NodeId>& PrefixCache::children_of(const Span& span, NodeId parent) {
  return parent == kRoot ? roots_[{span.members, span.first_member}] : nodes_.at(parent).children;
}

const std::vector<PrefixCache::NodeId>* PrefixCache::children_of(const Span& span, NodeId parent) const {
  if (parent != kRoot) {
    return &nodes_.at(parent).children;
  }
  const auto at = roots_.find({span.members, span.first_member});
  return at == roots_.end() ? nullptr : &at->second;
}

// Tokens of the node's page that `content` has too, up to the token tokens_max of the sequence.
std::int64_t PrefixCache::equal_in(const Node& node, const Content& content, std::int64_t tokens_max) const {
  const std::int64_t first = node.index * kPageRows;
  const std::int64_t end =
      std::min({tokens_max, static_cast<std::int64_t>(content.tokens.size()), first + node.tokens()});
  if (end <= first) {
    return 0;
  }
  const auto from = node.content.tokens.begin();
  const auto part = std::mismatch(from, from + (end - first), content.tokens.begin() + first).first - from;
  return media_part(node.content.units, content.units, first, first + part) - first;
}

PrefixCache::Match PrefixCache::longest_in(const Span& span, const Content& content, std::int64_t tokens_max) const {
  Match match;
  match.span = span;
  for (;;) {
    const std::vector<NodeId>* children = children_of(span, match.node);
    NodeId best = kRoot;
    std::int64_t most = 0;
    for (std::size_t i = 0; children != nullptr && i < children->size(); ++i) {
      const std::int64_t equal = equal_in(nodes_.at((*children)[i]), content, tokens_max);
      if (equal > most) {
        most = equal;
        best = (*children)[i];
      }
    }
    match.tokens += most;
    if (most < kPageRows) {
      match.rest = most > 0 ? nodes_.at(best).page : -1;
      return match;
    }
    match.node = best;
    match.pages.push_back(nodes_.at(best).page);
  }
}

PrefixCache::Match PrefixCache::longest(const Content& content, std::int64_t tokens_max) const {
  Match best;
  for (const auto& [place, span] : spans_) {
    Match match = longest_in(span, content, tokens_max);
    if (match.tokens > best.tokens) {
      best = std::move(match);
    }
  }
  return best;
}

PrefixCache::NodeId PrefixCache::add(const Span& span, NodeId parent, const Content& content, std::int64_t index,
                                     std::int64_t end, std::int32_t page) {
  if (!has(parent)) {
    return kRoot;
  }
  const std::int64_t first = index * kPageRows;
  check(end > first && end <= first + kPageRows && end <= static_cast<std::int64_t>(content.tokens.size()),
        "a page is kept with its tokens");
  for (const NodeId sibling : children_of(span, parent)) {
    const Node& node = nodes_.at(sibling);
    if (node.tokens() >= end - first && equal_in(node, content, end) == end - first) {
      return kRoot;
    }
  }
  const NodeId id = next_++;
  Node node;
  node.span = span;
  node.parent = parent;
  node.index = index;
  node.content.tokens.assign(content.tokens.begin() + first, content.tokens.begin() + end);
  for (auto unit = unit_beyond(content.units, first); unit != content.units.end() && unit->first_token < end; ++unit) {
    node.content.units.push_back(*unit);
  }
  node.page = page;
  spans_[{span.members, span.first_member}] = span;
  children_of(span, parent).push_back(id);
  pool_of(node).keep(page);
  nodes_.emplace(id, std::move(node));
  mark(id, ++clock_);
  if (parent != kRoot) {
    mark(parent, nodes_.at(parent).used);  // no leaf any more
  }
  return id;
}

// Moves a node to its place by last use; only leaves stand in the order.
void PrefixCache::mark(NodeId id, std::uint64_t used) {
  Node& node = nodes_.at(id);
  leaves_.erase({node.used, id});
  node.used = used;
  if (node.children.empty()) {
    leaves_.insert({used, id});
  }
}

void PrefixCache::touch(NodeId node) {
  ++clock_;
  while (node != kRoot && nodes_.contains(node)) {
    mark(node, clock_);
    node = nodes_.at(node).parent;
  }
}

void PrefixCache::drop(NodeId id) {
  const auto at = nodes_.find(id);
  if (at == nodes_.end()) {
    return;
  }
  while (!at->second.children.empty()) {
    drop(at->second.children.back());
  }
  Node& node = at->second;
  std::erase(children_of(node.span, node.parent), id);
  leaves_.erase({node.used, id});
  pool_of(node).forget(node.page);
  const NodeId parent = node.parent;
  nodes_.erase(at);
  if (parent != kRoot) {
    mark(parent, nodes_.at(parent).used);
  }
}

bool PrefixCache::reclaim(int member) {
  const PagePool& pool = pools_[static_cast<std::size_t>(member)];
  const std::int32_t wanted = pool.free_pages() + 1;
  const auto unused = [&](const Node& node) { return pool_of(node).references(node.page) == 0; };
  while (pool.free_pages() < wanted && pool.reclaimable_pages() > 0) {
    const auto leaf = std::find_if(leaves_.begin(), leaves_.end(), [&](const auto& entry) {
      const Node& node = nodes_.at(entry.second);
      return node.span.contains(member) && unused(node);
    });
    if (leaf != leaves_.end()) {
      drop(leaf->second);
      continue;
    }
    // Left are pages with something behind them that is used, by a sequence which does not use them itself: it has them
    // in another place since it grew.
    NodeId oldest = kRoot;
    for (const auto& [id, node] : nodes_) {
      if (node.span.owner(node.index) == member && unused(node) &&
          (oldest == kRoot || std::pair(node.used, id) < std::pair(nodes_.at(oldest).used, oldest))) {
        oldest = id;
      }
    }
    check(oldest != kRoot, "a page is kept that no node of the prefix cache names");
    drop(oldest);
  }
  return pool.free_pages() >= wanted;
}

std::map<std::pair<int, std::int32_t>, std::int32_t> PrefixCache::keepers() const {
  std::map<std::pair<int, std::int32_t>, std::int32_t> counts;
  for (const auto& [id, node] : nodes_) {
    ++counts[{node.span.owner(node.index), node.page}];
  }
  return counts;
}

}  // namespace zoetrope
