// Attention over pages of 256 tokens (docs/one-answer.md rule 4) and the per-frame attention of the vision tower.
// All query heads of a KV head share one tile. A query row keeps one running partial (m, l, o) per class of pages;
// classes meet by stride halving; one division after the root.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/compute.h"
#include "kernels/tensor.h"

namespace zoetrope {

inline constexpr int kPageTokens = 256;
inline constexpr int kPageClasses = 64;  // C: page p of a sequence has class p mod C
inline constexpr int kMaxHeadDim = 256;  // and even
inline constexpr int kMaxHeadsPerKv = 48;

// The shape of one layer's KV page on this rank. K and V are stored packed at append time (see attention.cc):
// bf16 in bf16 mode, fp32 in fp32 mode.
struct KvLayout {
  int kv_heads = 0;  // of this rank
  int head_dim = 0;
  Precision precision = Precision::kBf16;

  std::size_t head_bytes() const;  // K and V of one head of one page
  std::size_t page_bytes() const;  // kv_heads * head_bytes()
};

// One page of a sequence as attention sees it.
struct PageRef {
  std::int64_t page_id = 0;         // where: layer_base + page_id * page_stride
  std::int64_t first_position = 0;  // index in the sequence of the page's first token (a multiple of 256)
  int page_class = 0;               // (first_position / 256) mod C
  int valid_rows = 0;               // tokens written, 1 .. 256
};

// Where one layer's pages lie.
struct KvPages {
  std::byte* layer_base = nullptr;
  std::size_t page_stride = 0;  // bytes from page id to page id

  std::byte* page(std::int64_t page_id) const { return layer_base + static_cast<std::size_t>(page_id) * page_stride; }
};

// Writes new K and V rows into their pages. Pages were zeroed when handed out.
struct KvSlot {
  std::int64_t page_id = 0;
  int row = 0;  // 0 .. 255
};
void append_kv(const Compute& compute, const KvLayout& layout, KvPages pages, Rows<const float> k /* [T, G*D] */,
               Rows<const float> v /* [T, G*D] */, std::span<const KvSlot> slots /* [T] */);

// Zeroes the K and V of rows first_row .. 255 of one layer's page.
void clear_kv(const KvLayout& layout, std::byte* page, int first_row);

// The query rows of one sequence in this step and the pages they look at, in increasing order of first_position.
struct AttentionJob {
  Rows<const float> q;                      // [T, heads * head_dim]; heads % kv_heads == 0
  std::span<const std::int64_t> positions;  // [T] index in the sequence; a row sees tokens with index <= its own
  std::span<const PageRef> pages;
  Rows<float> out;  // [T, heads * head_dim]
};

// Attention of many sequences at once, every page of each at hand. Threads split by (job, rows, KV head), and for few
// rows over long contexts by class.
void attention(const Compute& compute, const KvLayout& layout, KvPages pages, std::span<const AttentionJob> jobs);

// The same, cut over the members of a span (rule 4): member i of R (a power of two <= C) holds the pages whose class is
// i mod R. Each makes the partial of its own subtree; partials of members meet by merge_partials with strides R/2 .. 1.
struct AttentionPartials {
  Rows<float> m;  // [T, heads] running maximum in units of log2
  Rows<float> l;  // [T, heads] sum of exp2
  Rows<float> o;  // [T, heads * head_dim] unnormalised
};
// A row without any page gets m = kNoPartial, l = 0, o = 0: an empty partial, skipped by merge_partials. (Both m and l
// say so: a row whose scores are all NaN keeps m, but its l is NaN, and it goes on into the answer.)
inline constexpr float kNoPartial = -3.0e38f;
void attention_partials(const Compute& compute, const KvLayout& layout, KvPages pages,
                        const AttentionJob& job /* out unused */, int member, int members,
                        const AttentionPartials& partials);
// a = merge(a, b), a the lower member.
void merge_partials(const Compute& compute, int head_dim, const AttentionPartials& a, const AttentionPartials& b);
// out = o / l, rounded in bf16 mode.
void finish_partials(const Compute& compute, int head_dim, const AttentionPartials& partials, Rows<float> out);

// Full attention inside segments of consecutive rows (one frame each), no mask, scale head_dim^-0.5: reference 3.7.
void segment_attention(const Compute& compute, int heads, Rows<const float> q, Rows<const float> k, Rows<const float> v,
                       std::span<const std::int64_t> segment_rows, Rows<float> out /* [N, heads * head_dim] */);

}  // namespace zoetrope
