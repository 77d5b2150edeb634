// Partials (m, l, o) that travel, and the tree of docs/one-answer.md rule 4 in which those of a ring's members meet.
// Inner to ring attention; kernels/attention.h is the arithmetic.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "monitoring/check.h"

namespace zoetrope {

// Memory of partials, used again: a steady state allocates nothing.
using SparePartials = std::vector<std::vector<float>>;

// Partials of some rows in one piece of memory, the form in which they travel; no memory: an absent subtree.
class Partials {
 public:
  Partials() = default;
  Partials(SparePartials& spare, std::int64_t rows, std::int64_t heads, int head_dim)
      : rows_(rows), heads_(heads), head_dim_(head_dim) {
    if (!spare.empty()) {
      memory_ = std::move(spare.back());
      spare.pop_back();
    }
    memory_.resize(static_cast<std::size_t>(rows * heads * (2 + head_dim)));
  }

  bool absent() const { return memory_.empty(); }
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(memory_)); }
  void give_back(SparePartials& spare) {
    if (!absent()) {
      spare.push_back(std::move(memory_));
      memory_.clear();
    }
  }
  AttentionPartials view() {
    float* m = memory_.data();
    float* l = m + rows_ * heads_;
    return {.m = {m, rows_, heads_}, .l = {l, rows_, heads_}, .o = {l + rows_ * heads_, rows_, heads_ * head_dim_}};
  }

 private:
  std::vector<float> memory_;
  std::int64_t rows_ = 0, heads_ = 0;
  int head_dim_ = 0;
};

// Which leaf comes in turn `value`, of `count` (a power of two): perfect matchings of members, and a tree that grows
// like a binary counter.
inline int reversed_bits(int value, int count) {
  int reversed = 0;
  for (int bit = 1; bit < count; bit *= 2) {
    reversed = reversed * 2 + (value & 1);
    value /= 2;
  }
  return reversed;
}

// The tree over `leaves` partials that arrive in bit-reversed order, from any first one: they pair up like the digits
// of a binary counter, so log2 leaves + 1 partials are alive at most.
class PartialsTree {
 public:
  PartialsTree(const Compute& compute, int head_dim, int leaves, SparePartials& spare)
      : compute_(compute), head_dim_(head_dim), leaves_(leaves), spare_(spare) {}

  void add(Partials leaf, int index) {
    waiting_.push_back({std::move(leaf), index});
    most_alive_ = std::max(most_alive_, alive());
    ++arrived_;
    for (int count = arrived_, modulus = leaves_; count % 2 == 0; count /= 2, modulus /= 2) {
      meet(modulus);
    }
  }

  Partials root() {
    check(arrived_ == leaves_ && waiting_.size() == 1 && !waiting_[0].partials.absent(),
          "a tree of partials is complete");
    return std::move(waiting_[0].partials);
  }

  // Partials of one row that exist now, and the most that did.
  int alive() const {
    return static_cast<int>(
        std::count_if(waiting_.begin(), waiting_.end(), [](const Subtree& s) { return !s.partials.absent(); }));
  }
  int most_alive() const { return most_alive_; }
  // Others of the same row exist beside the tree, on their way to it.
  void beside(int others) { most_alive_ = std::max(most_alive_, alive() + others); }

 private:
  struct Subtree {
    Partials partials;
    int leaf;  // one of its leaves; modulo the modulus of its level it names the subtree
  };

  void meet(int modulus) {
    Subtree second = std::move(waiting_.back());
    waiting_.pop_back();
    Subtree& first = waiting_.back();
    check((first.leaf - second.leaf) % (modulus / 2) == 0, "leaves arrive in bit-reversed order");
    if (second.leaf % modulus < first.leaf % modulus) {
      std::swap(first, second);
    }
    if (first.partials.absent()) {
      std::swap(first, second);
    } else if (!second.partials.absent()) {
      merge_partials(compute_, head_dim_, first.partials.view(), second.partials.view());
    }
    second.partials.give_back(spare_);
  }

  const Compute& compute_;
  int head_dim_, leaves_, arrived_ = 0, most_alive_ = 0;
  SparePartials& spare_;
  std::vector<Subtree> waiting_;
};

}  // namespace zoetrope
