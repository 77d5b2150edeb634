#include "kernels/attention.h"

#include <algorithm>
#include <vector>

#include "kernels/attention_layout.h"
#include "kernels/attention_walk.h"
#include "kernels/body_table.h"

namespace zoetrope {
namespace {

// Pieces of work per thread, so that the last ones end at about the same time.
constexpr std::int64_t kPiecesPerThread = 4;

thread_local Scratch tile_scratch;    // of the thread that walks a tile
thread_local Scratch shared_scratch;  // of the caller: what pieces of one call leave for each other

void check_layout(const Compute& compute, const KvLayout& layout) {
  check_head_dim(layout.head_dim);
  check(layout.kv_heads > 0, "attention: kv_heads");
  check(layout.precision == compute.precision, "attention: KV precision");
}

// A row of a job must lie where the job says and see pages of the classes asked for only.
int check_job(const KvLayout& layout, const AttentionJob& job, int member, int members) {
  const auto heads = static_cast<int>(div_exact<std::int64_t>(job.q.columns, layout.head_dim));
  check_eq(static_cast<std::int64_t>(job.positions.size()), job.q.rows, "attention: positions of rows");
  for (const PageRef& page : job.pages) {
    check_eq(page.page_class % members, member, "attention: a page of another member");
  }
  const int group = div_exact(heads, layout.kv_heads);
  check(group <= kMaxHeadsPerKv, "attention: query heads of a KV head");
  return group;
}

// Later positions first: they see most pages, and a long piece of work is best begun early.
void add_tiles(const KvLayout& layout, const AttentionJob& job, const ClassedPages& classed, int group,
               std::vector<Tile>& tiles) {
  const std::int64_t positions = std::max(1, kTileRows / group);
  for (int kv_head = 0; kv_head < layout.kv_heads; ++kv_head) {
    for (std::int64_t end = job.q.rows; end > 0;) {
      const std::int64_t first = (end - 1) / positions * positions;
      const auto count = static_cast<int>(end - first);
      tiles.push_back({&job, &classed, kv_head, first, count, group, count * group});
      end = first;
    }
  }
}

int most_rows(std::span<const Tile> tiles) {
  int rows = 0;
  for (const Tile& tile : tiles) {
    rows = std::max(rows, tile.rows);
  }
  return rows;
}

// Into how many subtrees each tile is cut so that every thread has work: a power of two.
int subtrees_per_tile(const Compute& compute, std::int64_t tiles, int members) {
  const int threads = compute.pool->threads();
  int subtrees = 1;
  while (threads > 1 && tiles * subtrees < threads * kPiecesPerThread && members * subtrees < kPageClasses) {
    subtrees *= 2;
  }
  return subtrees;
}

// Walks every tile's subtree (member, members) and hands its root to `finish(tile, partial)`.
template <typename Finish>
void walk_tiles(const Compute& compute, const KvLayout& layout, KvPages pages, std::span<const Tile> tiles, int member,
                int members, const Finish& finish) {
  const AttentionBody& body = compute.body->attention;
  const int rows = most_rows(tiles);
  const auto count = static_cast<std::int64_t>(tiles.size());
  const int subtrees = subtrees_per_tile(compute, count, members);
  if (subtrees == 1) {
    compute.pool->parallel_for(count, [&](std::int64_t piece, int thread) {
      const Tile& tile = tiles[static_cast<std::size_t>(piece)];
      Walk walk(body, layout, pages, tile, tile_scratch.floats(Walk::floats(rows, layout.head_dim)),
                thread == 0 ? compute.between : nullptr);
      walk.root(member, members, walk.node(0));
      finish(tile, walk.node(0));
    });
    return;
  }
  const std::size_t partial = TilePartial::floats(rows, layout.head_dim);
  float* shared = shared_scratch.floats(static_cast<std::size_t>(count) * static_cast<std::size_t>(subtrees) * partial);
  const auto root = [&](std::int64_t tile, int subtree) {
    return TilePartial(shared + static_cast<std::size_t>(tile * subtrees + subtree) * partial,
                       tiles[static_cast<std::size_t>(tile)].rows, layout.head_dim);
  };
  compute.pool->parallel_for(count * subtrees, [&](std::int64_t piece, int thread) {
    const std::int64_t index = piece / subtrees;
    const auto subtree = static_cast<int>(piece % subtrees);
    Walk walk(body, layout, pages, tiles[static_cast<std::size_t>(index)],
              tile_scratch.floats(Walk::floats(rows, layout.head_dim)), thread == 0 ? compute.between : nullptr);
    walk.root(member + members * subtree, members * subtrees, root(index, subtree));
  });
  compute.pool->parallel_for(count, [&](std::int64_t index, int) {
    const Tile& tile = tiles[static_cast<std::size_t>(index)];
    for (int stride = subtrees / 2; stride > 0; stride /= 2) {
      for (int lower = 0; lower < stride; ++lower) {
        merge(body, root(index, lower), root(index, lower + stride), tile.rows, layout.head_dim);
      }
    }
    finish(tile, root(index, 0));
  });
}

// How many of the slots, from the first, follow each other in one page.
int run_of(std::span<const KvSlot> slots) {
  int count = 1;
  for (; count < static_cast<int>(slots.size()); ++count) {
    const KvSlot& slot = slots[static_cast<std::size_t>(count)];
    if (slot.page_id != slots[0].page_id || slot.row != slots[0].row + count) {
      break;
    }
  }
  return count;
}

void check_partials(int head_dim, const AttentionPartials& partials) {
  check(head_dim > 0 && partials.l.rows == partials.m.rows && partials.o.rows == partials.m.rows &&
            partials.l.columns == partials.m.columns && partials.o.columns == partials.m.columns * head_dim,
        "attention: shape of partials");
}

PartialRow row_of(const AttentionPartials& partials, std::int64_t t, std::int64_t head, int head_dim) {
  return {partials.m.row(t) + head, partials.l.row(t) + head, partials.o.row(t) + head * head_dim};
}

}  // namespace

std::size_t KvLayout::head_bytes() const {
  return keys_bytes(*this) +
         static_cast<std::size_t>(round_up(head_dim, kPanelLanes)) * kPageTokens * element_bytes(precision);
}

std::size_t KvLayout::page_bytes() const { return static_cast<std::size_t>(kv_heads) * head_bytes(); }

void append_kv(const Compute& compute, const KvLayout& layout, KvPages pages, Rows<const float> k, Rows<const float> v,
               std::span<const KvSlot> slots) {
  check_layout(compute, layout);
  const std::int64_t columns = static_cast<std::int64_t>(layout.kv_heads) * layout.head_dim;
  const auto tokens = static_cast<std::int64_t>(slots.size());
  check(k.rows == tokens && v.rows == tokens && k.columns == columns && v.columns == columns,
        "append_kv: shape of k and v");
  for (const KvSlot& slot : slots) {
    check(slot.row >= 0 && slot.row < kPageTokens, "append_kv: row of a page");
  }
  // One piece is some tokens: those that follow each other in a page share its cache lines.
  constexpr std::int64_t kTokensPerPiece = 32;
  compute.pool->parallel_for(div_ceil(tokens, kTokensPerPiece), [&](std::int64_t piece, int) {
    const std::int64_t end = std::min(tokens, (piece + 1) * kTokensPerPiece);
    for (std::int64_t t = piece * kTokensPerPiece; t < end;) {
      const int count = run_of(slots.subspan(static_cast<std::size_t>(t), static_cast<std::size_t>(end - t)));
      const KvSlot& slot = slots[static_cast<std::size_t>(t)];
      for (int head = 0; head < layout.kv_heads; ++head) {
        append_tokens(layout, pages.page(slot.page_id) + static_cast<std::size_t>(head) * layout.head_bytes(), slot.row,
                      {.k = k.row(t) + head * layout.head_dim,
                       .v = v.row(t) + head * layout.head_dim,
                       .k_stride = k.stride,
                       .v_stride = v.stride,
                       .count = count});
      }
      t += count;
    }
  });
}

void clear_kv(const KvLayout& layout, std::byte* page, int first_row) {
  check(first_row >= 0 && first_row <= kPageTokens, "clear_kv: row of a page");
  const std::vector<float> zeros(static_cast<std::size_t>(layout.head_dim));
  for (int head = 0; head < layout.kv_heads; ++head) {
    append_tokens(
        layout, page + static_cast<std::size_t>(head) * layout.head_bytes(), first_row,
        {.k = zeros.data(), .v = zeros.data(), .k_stride = 0, .v_stride = 0, .count = kPageTokens - first_row});
  }
}

void attention(const Compute& compute, const KvLayout& layout, KvPages pages, std::span<const AttentionJob> jobs) {
  check_layout(compute, layout);
  std::vector<ClassedPages> classed(jobs.size());
  std::vector<Tile> tiles;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const AttentionJob& job = jobs[j];
    const int group = check_job(layout, job, 0, 1);
    check(job.out.rows == job.q.rows && job.out.columns == job.q.columns, "attention: shape of out");
    for (const std::int64_t position : job.positions) {
      check(!job.pages.empty() && position >= job.pages.front().first_position, "attention: a row that sees no token");
    }
    classed[j] = by_class(job.pages);
    add_tiles(layout, job, classed[j], group, tiles);
  }
  walk_tiles(compute, layout, pages, tiles, 0, 1, [&](const Tile& tile, const TilePartial& root) {
    for (int r = 0; r < tile.rows; ++r) {
      compute.body->attention.finish_row(root.l[r], root.row(r).o, layout.head_dim,
                                         tile.job->out.row(tile.row_of(r)) + tile.head_of(r) * layout.head_dim);
    }
  });
}

void attention_partials(const Compute& compute, const KvLayout& layout, KvPages pages, const AttentionJob& job,
                        int member, int members, const AttentionPartials& partials) {
  check_layout(compute, layout);
  check(members > 0 && members <= kPageClasses && kPageClasses % members == 0, "attention_partials: members");
  check(member >= 0 && member < members, "attention_partials: member");
  const int group = check_job(layout, job, member, members);
  const std::int64_t heads = static_cast<std::int64_t>(group) * layout.kv_heads;
  check_partials(layout.head_dim, partials);
  check(partials.m.rows == job.q.rows && partials.m.columns == heads, "attention_partials: shape of the partials");
  const ClassedPages classed = by_class(job.pages);
  std::vector<Tile> tiles;
  add_tiles(layout, job, classed, group, tiles);
  walk_tiles(compute, layout, pages, tiles, member, members, [&](const Tile& tile, const TilePartial& root) {
    for (int r = 0; r < tile.rows; ++r) {
      partials.m.row(tile.row_of(r))[tile.head_of(r)] = root.m[r];
      partials.l.row(tile.row_of(r))[tile.head_of(r)] = root.l[r];
      std::copy_n(root.row(r).o, layout.head_dim, partials.o.row(tile.row_of(r)) + tile.head_of(r) * layout.head_dim);
    }
  });
}

void merge_partials(const Compute& compute, int head_dim, const AttentionPartials& a, const AttentionPartials& b) {
  check_partials(head_dim, a);
  check_partials(head_dim, b);
  check(a.m.rows == b.m.rows && a.m.columns == b.m.columns, "merge_partials: shapes of a and b");
  compute.pool->parallel_for(a.m.rows, [&](std::int64_t t, int) {
    for (std::int64_t head = 0; head < a.m.columns; ++head) {
      merge(compute.body->attention, row_of(a, t, head, head_dim), row_of(b, t, head, head_dim), head_dim);
    }
  });
}

void finish_partials(const Compute& compute, int head_dim, const AttentionPartials& partials, Rows<float> out) {
  check_partials(head_dim, partials);
  check(out.rows == partials.o.rows && out.columns == partials.o.columns, "finish_partials: shape of out");
  compute.pool->parallel_for(out.rows, [&](std::int64_t t, int) {
    for (std::int64_t head = 0; head < partials.m.columns; ++head) {
      const PartialRow row = row_of(partials, t, head, head_dim);
      compute.body->attention.finish_row(*row.l, row.o, head_dim, out.row(t) + head * head_dim);
    }
  });
}

}  // namespace zoetrope
