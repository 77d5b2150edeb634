// A tile of query rows and its walk over the classes of its pages: the tree of docs/one-answer.md rule 4. Inner to the
// attention ops; kernels/attention.h is the contract.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/attention_layout.h"
#include "kernels/bodies/attention_body.h"
#include "monitoring/check.h"

namespace zoetrope {

// Rows of one tile: enough that a page, brought into the cache, is used often; few enough that the tile's queries,
// scores and sums share the L2 cache with it.
inline constexpr int kTileRows = 96;
inline constexpr int kTreeLevels = 7;  // nodes alive on one path of the tree of 64 classes

// Scratch of one thread, 64-byte aligned, kept from call to call: a step asks for the same sizes layer after layer.
class Scratch {
 public:
  float* floats(std::size_t count) {
    if (buffer_.size() < count + 16) {
      buffer_.resize(count + 16);
    }
    const auto address = reinterpret_cast<std::uintptr_t>(buffer_.data());
    return buffer_.data() + (round_up(address, std::uintptr_t{64}) - address) / sizeof(float);
  }

 private:
  std::vector<float> buffer_;
};

// The pages of one job by class, each class in increasing order of position.
struct ClassedPages {
  std::array<std::int32_t, kPageClasses + 1> first{};  // pages of class c: index[first[c]] .. index[first[c + 1] - 1]
  std::vector<std::int32_t> index;
};

inline ClassedPages by_class(std::span<const PageRef> pages) {
  ClassedPages classed;
  std::int64_t before = -1;
  for (const PageRef& page : pages) {
    check(page.first_position > before && page.first_position % kPageTokens == 0,
          "attention: pages in increasing order");
    check_eq(static_cast<std::int64_t>(page.page_class), page.first_position / kPageTokens % kPageClasses,
             "attention: class of a page");
    check(page.valid_rows > 0 && page.valid_rows <= kPageTokens, "attention: rows of a page");
    before = page.first_position;
    ++classed.first[static_cast<std::size_t>(page.page_class) + 1];
  }
  for (std::size_t c = 0; c < kPageClasses; ++c) {
    classed.first[c + 1] += classed.first[c];
  }
  classed.index.resize(pages.size());
  auto next = classed.first;
  for (std::size_t p = 0; p < pages.size(); ++p) {
    classed.index[static_cast<std::size_t>(next[static_cast<std::size_t>(pages[p].page_class)]++)] =
        static_cast<std::int32_t>(p);
  }
  return classed;
}

// Query rows of consecutive positions of a job that share a KV head: row r is head r % group of position first + r /
// group.
struct Tile {
  const AttentionJob* job = nullptr;
  const ClassedPages* classed = nullptr;
  int kv_head = 0;
  std::int64_t first = 0;
  int positions = 0;
  int group = 0;
  int rows = 0;

  std::int64_t row_of(int row) const { return first + row / group; }
  std::int64_t head_of(int row) const { return static_cast<std::int64_t>(kv_head) * group + row % group; }
};

// The running partials of a tile.
struct TilePartial {
  float* m = nullptr;
  float* l = nullptr;
  float* o = nullptr;  // [rows, stride]
  std::int64_t stride = 0;

  static std::size_t floats(int rows, int head_dim) {
    return round_up(static_cast<std::size_t>(rows) * (2 + static_cast<std::size_t>(round_up(head_dim, kPanelLanes))),
                    std::size_t{16});
  }
  TilePartial() = default;
  TilePartial(float* memory, int rows, int head_dim)
      : m(memory + static_cast<std::int64_t>(rows) * round_up(head_dim, kPanelLanes)),
        l(m + rows),
        o(memory),
        stride(round_up(head_dim, kPanelLanes)) {}

  PartialRow row(std::int64_t r) const { return {m + r, l + r, o + r * stride}; }
  void clear(int rows) const {
    std::fill_n(m, rows, kNoPartial);
    std::fill_n(l, rows, 0.0F);
    std::fill_n(o, rows * stride, 0.0F);
  }
};

inline void merge(const AttentionBody& body, const PartialRow& a, const PartialRow& b, int head_dim) {
  const auto empty = [](const PartialRow& row) { return *row.m == kNoPartial && *row.l == 0.0F; };
  if (empty(b)) {
    return;
  }
  if (empty(a)) {
    *a.m = *b.m;
    *a.l = *b.l;
    std::copy_n(b.o, head_dim, a.o);
    return;
  }
  body.merge_row(a, b, head_dim);
}

inline void merge(const AttentionBody& body, const TilePartial& a, const TilePartial& b, int rows, int head_dim) {
  for (int r = 0; r < rows; ++r) {
    merge(body, a.row(r), b.row(r), head_dim);
  }
}

// Packed rows, scores and bounds of a tile while it walks.
struct TileSpace {
  float* queries = nullptr;
  float* strip = nullptr;
  std::int32_t* visible = nullptr;

  static std::size_t floats(int rows) { return static_cast<std::size_t>(round_up(rows, 16)) * (2 * kStripStride + 1); }
  TileSpace(float* memory, int rows)
      : queries(memory),
        strip(memory + round_up(rows, 16) * kStripStride),
        visible(reinterpret_cast<std::int32_t*>(memory + round_up(rows, 16) * 2 * kStripStride)) {}
};

// One tile's walk over its pages. A node of the tree is (residue, modulus): the classes c with c % modulus == residue.
// Its children are the residues residue and residue + modulus of twice the modulus: stride halving, read from the root.
class Walk {
 public:
  // `between`: called before each page, may be null.
  Walk(const AttentionBody& body, const KvLayout& layout, KvPages pages, const Tile& tile, float* memory,
       const std::function<void()>* between = nullptr)
      : between_(between),
        body_(body),
        layout_(layout),
        pages_(pages),
        tile_(tile),
        space_(memory, tile.rows),
        nodes_(memory + TileSpace::floats(tile.rows)) {
    for (int r = 0; r < tile.rows; ++r) {
      body.pack_query(tile.job->q.row(tile.row_of(r)) + tile.head_of(r) * layout.head_dim, layout.head_dim,
                      layout.precision == Precision::kBf16, space_.queries + r * kStripStride);
    }
  }
  static std::size_t floats(int rows, int head_dim) {
    return TileSpace::floats(rows) + kTreeLevels * TilePartial::floats(rows, head_dim);
  }

  TilePartial node(int level) const {
    return {nodes_ + static_cast<std::size_t>(level) * TilePartial::floats(tile_.rows, layout_.head_dim), tile_.rows,
            layout_.head_dim};
  }

  void root(int residue, int modulus, const TilePartial& out) {
    if (!subtree(residue, modulus, 1, out)) {
      out.clear(tile_.rows);
    }
  }

 private:
  // False where no row of the tile sees any page of the subtree; `out` is then left as it was. Memory for the right
  // child is node(level), so a path keeps at most kTreeLevels partials alive.
  bool subtree(int residue, int modulus, int level, const TilePartial& out) {
    if (modulus == kPageClasses) {
      return leaf(residue, out);
    }
    const bool lower = subtree(residue, 2 * modulus, level + 1, out);
    const TilePartial right = lower ? node(level) : out;
    const bool upper = subtree(residue + modulus, 2 * modulus, level + 1, right);
    if (lower && upper) {
      merge(body_, out, right, tile_.rows, layout_.head_dim);
    }
    return lower || upper;
  }

  bool leaf(int page_class, const TilePartial& out) {
    bool any = false;
    const ClassedPages& classed = *tile_.classed;
    const auto c = static_cast<std::size_t>(page_class);
    for (std::int32_t i = classed.first[c]; i < classed.first[c + 1]; ++i) {
      const PageRef& page = tile_.job->pages[static_cast<std::size_t>(classed.index[static_cast<std::size_t>(i)])];
      if (!bound(page)) {
        continue;
      }
      if (!any) {
        out.clear(tile_.rows);
        any = true;
      }
      visit(page, next_of(page_class, i), out);
    }
    return any;
  }

  // The page behind entry i of a class: of the same class, or the first of the class that the walk comes to next.
  const PageRef* next_of(int page_class, std::int32_t i) const {
    const ClassedPages& classed = *tile_.classed;
    const auto first_of = [&](int c) { return classed.first[static_cast<std::size_t>(c)]; };
    if (i + 1 == first_of(page_class + 1)) {
      // Classes are walked in bit-reversed order: the next one adds a bit at the top and carries downwards.
      int bit = kPageClasses / 2;
      for (; bit > 0 && (page_class & bit) != 0; bit /= 2) {
        page_class -= bit;
      }
      page_class += bit;
      i = first_of(page_class) - 1;
      if (bit == 0 || i + 1 == first_of(page_class + 1)) {
        return nullptr;
      }
    }
    return &tile_.job->pages[static_cast<std::size_t>(classed.index[static_cast<std::size_t>(i + 1)])];
  }

  // How many tokens of the page each row sees; false where none sees any.
  bool bound(const PageRef& page) {
    std::int64_t most = 0;
    for (int p = 0; p < tile_.positions; ++p) {
      const std::int64_t position = tile_.job->positions[static_cast<std::size_t>(tile_.first + p)];
      const std::int64_t seen = std::clamp<std::int64_t>(position - page.first_position + 1, 0, page.valid_rows);
      std::fill_n(space_.visible + p * tile_.group, tile_.group, static_cast<std::int32_t>(seen));
      most = std::max(most, seen);
    }
    return most > 0;
  }

  const std::byte* head_of(const PageRef& page) const {
    return pages_.page(page.page_id) + static_cast<std::size_t>(tile_.kv_head) * layout_.head_bytes();
  }

  void visit(const PageRef& page, const PageRef* next, const TilePartial& out) {
    if (between_ != nullptr) {
      (*between_)();
    }
    const std::byte* head = head_of(page);
    body_.visit_page({.keys = head,
                      .values = head + keys_bytes(layout_),
                      .next_keys = next == nullptr ? nullptr : head_of(*next),
                      .queries = space_.queries,
                      .visible = space_.visible,
                      .rows = tile_.rows,
                      .head_dim = layout_.head_dim,
                      .bf16 = layout_.precision == Precision::kBf16,
                      .scale = log2_scale(layout_.head_dim),
                      .strip = space_.strip,
                      .m = out.m,
                      .l = out.l,
                      .o = out.o});
  }

  const std::function<void()>* between_;
  const AttentionBody& body_;
  const KvLayout& layout_;
  KvPages pages_;
  const Tile& tile_;
  TileSpace space_;
  float* nodes_;
};

}  // namespace zoetrope
