// The readable specification of the attention family: one query row, one column at a time. Every other body gives these
// bits. docs/one-answer.md rule 4.
#include <cmath>

#include "kernels/bodies/attention_body.h"
#include "kernels/reference/elementary.h"
#include "kernels/tensor.h"

namespace zoetrope {
namespace {

constexpr int kPositions = 256;

// Element (lane, step) of packed panels of `steps` steps: bodies/attention_body.h.
float packed(const std::byte* panels, bool bf16, int lane, int step, int steps) {
  const int panel = lane / kPanelLanes * steps * kPanelLanes;
  if (bf16) {
    return from_bf16(
        reinterpret_cast<const Bf16*>(panels)[panel + step / 2 * 2 * kPanelLanes + lane % kPanelLanes * 2 + step % 2]);
  }
  return reinterpret_cast<const float*>(panels)[panel + step * kPanelLanes + lane % kPanelLanes];
}

// sum + numbers[0] panel[0] + ... + numbers[steps - 1] panel[steps - 1] of one lane: one accumulator, a fused
// multiply-add a step. In bf16 mode the odd element of a pair comes before the even one; the last pair may have no odd
// element.
float product(const float* numbers, const std::byte* panels, bool bf16, int lane, int steps, int walk, float sum) {
  const auto add = [&](int step) { sum = std::fma(numbers[step], packed(panels, bf16, lane, step, walk), sum); };
  for (int step = 0; step < steps; step += bf16 ? 2 : 1) {
    if (bf16 && step + 1 < steps) {
      add(step + 1);
    }
    add(step);
  }
  return sum;
}

void pack_query(const float* query, int head_dim, bool bf16, float* row) {
  for (int d = 0; d < head_dim; ++d) {
    row[d] = bf16 ? round_bf16(query[d]) : query[d];
  }
}

void visit_row(const PageVisit& visit, int r) {
  const float* q = visit.queries + r * kStripStride;
  const int visible = visit.visible[r];
  float* o = visit.o + static_cast<std::int64_t>(r) * round_up(visit.head_dim, kPanelLanes);
  float s[kPositions];
  float m = visit.m[r];
  for (int j = 0; j < visible; ++j) {
    s[j] = product(q, visit.keys, visit.bf16, j, visit.head_dim, visit.head_dim, 0.0F) * visit.scale;
    m = s[j] > m ? s[j] : m;
  }
  m += 0.0F;  // a maximum of zero is +0
  const float factor = reference::exp2(visit.m[r] - m);

  float lanes_of[kPanelLanes] = {};
  for (int j = 0; j < visible; ++j) {
    const float p = reference::exp2(s[j] - m);
    lanes_of[j % kPanelLanes] += p;
    s[j] = visit.bf16 ? round_bf16(p) : p;
  }
  for (int width = kPanelLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      lanes_of[i] += lanes_of[i + width];
    }
  }
  visit.m[r] = m;
  visit.l[r] = std::fma(visit.l[r], factor, lanes_of[0]);
  for (int d = 0; d < visit.head_dim; ++d) {
    o[d] = product(s, visit.values, visit.bf16, d, visible, kPositions, o[d] * factor);
  }
}

void visit_page(const PageVisit& visit) {
  for (int r = 0; r < visit.rows; ++r) {
    if (visit.visible[r] > 0) {
      visit_row(visit, r);
    }
  }
}

void merge_row(const PartialRow& a, const PartialRow& b, int head_dim) {
  const float m = *a.m > *b.m ? *a.m : *b.m;
  const float factor_a = reference::exp2(*a.m - m);
  const float factor_b = reference::exp2(*b.m - m);
  *a.m = m;
  *a.l = std::fma(*b.l, factor_b, *a.l * factor_a);
  for (int d = 0; d < head_dim; ++d) {
    a.o[d] = std::fma(b.o[d], factor_b, a.o[d] * factor_a);
  }
}

void finish_row(float l, const float* o, int head_dim, float* out) {
  for (int d = 0; d < head_dim; ++d) {
    out[d] = o[d] / l;
  }
}

}  // namespace

const AttentionBody& attention_body_reference() {
  static const AttentionBody table{pack_query, visit_page, merge_row, finish_row};
  return table;
}

}  // namespace zoetrope
