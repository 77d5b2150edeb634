// The vision tower's attention: whole segments, no mask, no classes. A segment's K and V are packed into scratch blocks
// of 256 keys in the layout of KV pages, and one running partial walks them in order with the arithmetic of a page.
#include <algorithm>
#include <vector>

#include "kernels/attention.h"
#include "kernels/attention_layout.h"
#include "kernels/attention_walk.h"
#include "kernels/body_table.h"

namespace zoetrope {
namespace {

// Packed K and V alive at once: several small segments share a pair of parallel regions, a large one has its own.
constexpr std::size_t kScratchBytes = std::size_t{64} << 20;

thread_local Scratch block_scratch;  // of the caller: packed blocks
thread_local Scratch tile_scratch;   // of the thread that walks a tile

struct Vision {
  const Compute& compute;
  KvLayout layout;  // kv_heads = heads
  Rows<const float> q, k, v;
  Rows<float> out;
};

// One block of keys of one segment, or one tile of its query rows.
struct Span {
  std::int64_t first = 0;  // row of q, k, v
  int rows = 0;
  std::int64_t segment_first = 0;
  std::int64_t segment_rows = 0;
  std::int64_t block = 0;  // number of the segment's first block in scratch
};

void pack_block(const Vision& vision, const Span& span, int head, std::byte* blocks) {
  const KvLayout& layout = vision.layout;
  const std::int64_t block = span.block + (span.first - span.segment_first) / kPageTokens;
  std::byte* packed = blocks + static_cast<std::size_t>(block) * layout.page_bytes() +
                      static_cast<std::size_t>(head) * layout.head_bytes();
  append_tokens(layout, packed, 0,
                {.k = vision.k.row(span.first) + head * layout.head_dim,
                 .v = vision.v.row(span.first) + head * layout.head_dim,
                 .k_stride = vision.k.stride,
                 .v_stride = vision.v.stride,
                 .count = span.rows});
}

void walk_tile(const Vision& vision, const Span& span, int head, const std::byte* blocks) {
  const KvLayout& layout = vision.layout;
  const AttentionBody& body = vision.compute.body->attention;
  const bool bf16 = layout.precision == Precision::kBf16;
  float* memory = tile_scratch.floats(TileSpace::floats(kTileRows) + TilePartial::floats(kTileRows, layout.head_dim));
  const TileSpace space(memory, span.rows);
  const TilePartial partial(memory + TileSpace::floats(kTileRows), span.rows, layout.head_dim);
  for (int r = 0; r < span.rows; ++r) {
    body.pack_query(vision.q.row(span.first + r) + head * layout.head_dim, layout.head_dim, bf16,
                    space.queries + r * kStripStride);
  }
  partial.clear(span.rows);
  for (std::int64_t key = 0; key < span.segment_rows; key += kPageTokens) {
    const std::byte* keys = blocks + static_cast<std::size_t>(span.block + key / kPageTokens) * layout.page_bytes() +
                            static_cast<std::size_t>(head) * layout.head_bytes();
    std::fill_n(space.visible, span.rows,
                static_cast<std::int32_t>(std::min<std::int64_t>(kPageTokens, span.segment_rows - key)));
    body.visit_page({.keys = keys,
                     .values = keys + keys_bytes(layout),
                     .queries = space.queries,
                     .visible = space.visible,
                     .rows = span.rows,
                     .head_dim = layout.head_dim,
                     .bf16 = bf16,
                     .scale = log2_scale(layout.head_dim),
                     .strip = space.strip,
                     .m = partial.m,
                     .l = partial.l,
                     .o = partial.o});
  }
  for (int r = 0; r < span.rows; ++r) {
    body.finish_row(partial.l[r], partial.row(r).o, layout.head_dim,
                    vision.out.row(span.first + r) + head * layout.head_dim);
  }
}

// Cuts a segment into spans of at most `most` rows.
void cut(const Span& segment, int most, std::vector<Span>& spans) {
  for (std::int64_t row = 0; row < segment.segment_rows; row += most) {
    Span span = segment;
    span.first = segment.segment_first + row;
    span.rows = static_cast<int>(std::min<std::int64_t>(most, segment.segment_rows - row));
    spans.push_back(span);
  }
}

void attend(const Vision& vision, std::span<const Span> segments, std::int64_t blocks) {
  std::vector<Span> key_blocks;
  std::vector<Span> tiles;
  for (const Span& segment : segments) {
    cut(segment, kPageTokens, key_blocks);
    cut(segment, kTileRows, tiles);
  }
  const std::size_t bytes = static_cast<std::size_t>(blocks) * vision.layout.page_bytes();
  auto* packed = reinterpret_cast<std::byte*>(block_scratch.floats(bytes / sizeof(float)));
  const std::int64_t heads = vision.layout.kv_heads;
  // The heads of a span follow each other: they read and write neighbouring columns of the same rows.
  const auto each = [&](std::span<const Span> spans, const auto& compute) {
    const auto count = static_cast<std::int64_t>(spans.size());
    vision.compute.pool->parallel_for(count * heads, [&](std::int64_t piece, int) {
      compute(vision, spans[static_cast<std::size_t>(piece / heads)], static_cast<int>(piece % heads), packed);
    });
  };
  each(key_blocks, pack_block);
  each(tiles, walk_tile);
}

}  // namespace

void segment_attention(const Compute& compute, int heads, Rows<const float> q, Rows<const float> k, Rows<const float> v,
                       std::span<const std::int64_t> segment_rows, Rows<float> out) {
  check(heads > 0, "segment_attention: heads");
  check(k.rows == q.rows && v.rows == q.rows && out.rows == q.rows && k.columns == q.columns &&
            v.columns == q.columns && out.columns == q.columns,
        "segment_attention: shapes of q, k, v and out");
  const KvLayout layout{.kv_heads = heads,
                        .head_dim = static_cast<int>(div_exact<std::int64_t>(q.columns, heads)),
                        .precision = compute.precision};
  check_head_dim(layout.head_dim);
  const Vision vision{compute, layout, q, k, v, out};
  std::vector<Span> segments;
  std::int64_t blocks = 0;
  std::int64_t row = 0;
  for (const std::int64_t rows : segment_rows) {
    check(rows >= 0, "segment_attention: rows of a segment");
    const std::int64_t more = div_ceil<std::int64_t>(rows, kPageTokens);
    if (blocks > 0 && static_cast<std::size_t>(blocks + more) * layout.page_bytes() > kScratchBytes) {
      attend(vision, segments, blocks);
      segments.clear();
      blocks = 0;
    }
    segments.push_back({.first = row, .rows = 0, .segment_first = row, .segment_rows = rows, .block = blocks});
    blocks += more;
    row += rows;
  }
  check_eq(row, q.rows, "segment_attention: rows of all segments");
  attend(vision, segments, blocks);
}

}  // namespace zoetrope
