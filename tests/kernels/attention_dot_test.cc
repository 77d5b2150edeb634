// The tiles of the AVX-512 bodies (twelve rows of two panels; numbers as words of two bf16) on the lanes of AVX2: their
// tiling, packing and order of additions are tested on every CPU with AVX2, their instructions only where bodies_here()
// has them (attention_test).
#include "kernels/cpu/attention_dot.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/kernels/attention_case.h"

namespace zoetrope {
namespace {

using attention_case::Matrix;

Matrix answer(const Body& with, const KvLayout& layout, int heads, std::int64_t context, std::int64_t rows) {
  ThreadPool pool(1);
  const Compute compute{&with, &pool, layout.precision};
  const std::int64_t pages = div_ceil<std::int64_t>(context, kPageTokens);
  std::vector<std::byte> store(static_cast<std::size_t>(pages) * layout.page_bytes());
  const KvPages view{store.data(), layout.page_bytes()};
  const std::int64_t columns = std::int64_t{layout.kv_heads} * layout.head_dim;
  const Matrix k = Matrix::random(context, columns, layout.precision, 1);
  const Matrix v = Matrix::random(context, columns, layout.precision, 2);
  const Matrix q = Matrix::random(rows, std::int64_t{heads} * layout.head_dim, layout.precision, 3, 2.0F);
  std::vector<KvSlot> slots;
  std::vector<PageRef> refs;
  for (std::int64_t t = 0; t < context; ++t) {
    slots.push_back({t / kPageTokens, static_cast<int>(t % kPageTokens)});
  }
  for (std::int64_t p = 0; p < pages; ++p) {
    refs.push_back({p, p * kPageTokens, static_cast<int>(p % kPageClasses),
                    static_cast<int>(std::min<std::int64_t>(kPageTokens, context - p * kPageTokens))});
  }
  append_kv(compute, layout, view, k.view(), v.view(), slots);
  std::vector<std::int64_t> positions(static_cast<std::size_t>(rows));
  std::iota(positions.begin(), positions.end(), context - rows);
  Matrix out(rows, q.columns);
  const AttentionJob job{q.view(), positions, refs, out.view()};
  attention(compute, layout, view, {&job, 1});
  return out;
}

TEST(TilesOfAvx512, GiveTheBitsOfTheReference) {
  if (best_body() < BodyKind::kAvx2) {
    GTEST_SKIP() << "this CPU has not the lanes of AVX2";
  }
  set_fp_environment();
  Body widened = body(BodyKind::kPortable);
  widened.attention = attention_table<WidenedProduct<12, 12>, SingleProduct<12, 12>>();
  Body dots = widened;
  dots.attention = attention_table<DotProduct<12, 12>, SingleProduct<12, 12>>();
  struct Shape {
    int heads, kv_heads, head_dim;
    std::int64_t context, rows;
  };
  for (const Shape& s : {Shape{16, 1, 128, 300, 3}, Shape{4, 2, 72, 530, 40}, Shape{1, 1, 24, 513, 300},
                         Shape{11, 1, 30, 270, 20}, Shape{13, 1, 64, 255, 1}}) {
    for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
      const KvLayout layout{s.kv_heads, s.head_dim, precision};
      const Matrix expected = answer(body(BodyKind::kReference), layout, s.heads, s.context, s.rows);
      for (const Body* tested : {&widened, &dots}) {
        const Matrix found = answer(*tested, layout, s.heads, s.context, s.rows);
        EXPECT_EQ(std::memcmp(found.row(0), expected.row(0), expected.numbers.size() * sizeof(float)), 0)
            << (tested == &dots ? "dots " : "widened ") << attention_case::mode_name(precision) << " " << s.heads
            << " x " << s.head_dim;
      }
    }
  }
}

}  // namespace
}  // namespace zoetrope
