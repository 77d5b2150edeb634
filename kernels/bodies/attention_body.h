// Entries of the attention family in the table of one body. Same bits from every body.
// The packed layout of a head of a page, the same for all bodies (one KV store serves whatever body runs):
//   keys    [16 panels of 16 positions][head_dim walk][16 lanes]
//   values  [ceil(head_dim / 16) panels of 16 columns][256 positions walk][16 lanes]
// where a walk over n is, in bf16 mode, [n / 2 pairs][16 lanes][2 elements] of bf16 and, in fp32 mode, [n][16 lanes] of
// fp32. So scores and weighted values are one product: a row of numbers times a panel, walking its first index upwards.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zoetrope {

inline constexpr int kPanelLanes = 16;
// Floats between rows of packed queries and of the score strip: a page and one cache line, so that rows of a register
// tile do not meet in the same sets of the L1 cache.
inline constexpr std::int64_t kStripStride = 272;

inline constexpr int kMostTileRows = 96;  // rows of one visit

// What query rows that share a KV head do with one page: rule 4 of docs/one-answer.md, the part "per page".
struct PageVisit {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  const std::byte* next_keys = nullptr;  // of the page that is visited next, to be fetched meanwhile; null: unknown
  const float* queries = nullptr;  // [rows] rows of kStripStride floats, as pack_query left them
  // [rows] columns each row sees, 0 .. 256: the first `visible` tokens of the page. 0: the page is not there for the
  // row. Columns beyond it never enter the row's arithmetic, not even as zeros: what they hold may be anything.
  const std::int32_t* visible = nullptr;
  int rows = 0;
  int head_dim = 0;
  bool bf16 = false;
  float scale = 0;         // head_dim^-0.5 * log2(e): scores are in units of log2
  float* strip = nullptr;  // scratch: [rows] rows of kStripStride floats
  float* m = nullptr;      // [rows] running maximum
  float* l = nullptr;      // [rows] running sum
  float* o = nullptr;      // [rows, round_up(head_dim, 16)] running weighted values
};

// One running partial of one query row.
struct PartialRow {
  float* m = nullptr;
  float* l = nullptr;
  float* o = nullptr;  // [head_dim]
};

struct AttentionBody {
  // Brings head_dim numbers of a query row into the form visit_page reads. Rounds to bf16 in bf16 mode.
  void (*pack_query)(const float* query, int head_dim, bool bf16, float* packed) = nullptr;
  void (*visit_page)(const PageVisit& visit) = nullptr;
  // a = merge(a, b), both not empty.
  void (*merge_row)(const PartialRow& a, const PartialRow& b, int head_dim) = nullptr;
  // out = o / l.
  void (*finish_row)(float l, const float* o, int head_dim, float* out) = nullptr;
};

const AttentionBody& attention_body_reference();
const AttentionBody& attention_body_portable();
const AttentionBody& attention_body_avx2();
const AttentionBody& attention_body_avx512();
const AttentionBody& attention_body_avx512bf16();

}  // namespace zoetrope
