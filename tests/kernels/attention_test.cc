#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "tests/kernels/attention_case.h"

namespace zoetrope {
namespace {

using namespace attention_case;  // NOLINT: the test's own vocabulary

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 24;
  std::int64_t context = 300;
  std::int64_t rows = 17;  // the last ones of the context
  float size = 1;          // of q, k and v
};

// One sequence in a store of shuffled pages. Pages that are not the sequence's hold NaN; its own were zeroed.
class Sequence {
 public:
  Sequence(const Shape& shape, Precision precision, std::uint64_t seed = 1)
      : shape_(shape),
        layout_{.kv_heads = shape.kv_heads, .head_dim = shape.head_dim, .precision = precision},
        k(Matrix::random(shape.context, std::int64_t{shape.kv_heads} * shape.head_dim, precision, 3 * seed)),
        v(Matrix::random(shape.context, std::int64_t{shape.kv_heads} * shape.head_dim, precision, 3 * seed + 1,
                         shape.size)),
        q(Matrix::random(shape.context, std::int64_t{shape.heads} * shape.head_dim, precision, 3 * seed + 2, 2.0F)) {
    const std::int64_t pages = div_ceil<std::int64_t>(shape.context, kPageTokens);
    store_.assign(static_cast<std::size_t>(2 * pages + 1) * layout_.page_bytes(), std::byte{0xff});  // 0xffff: NaN
    std::vector<std::int64_t> ids(static_cast<std::size_t>(2 * pages + 1));
    std::iota(ids.begin(), ids.end(), 0);
    Numbers source(seed);
    for (std::size_t i = ids.size(); i-- > 1;) {
      std::swap(ids[i], ids[source.bits() % (i + 1)]);
    }
    ids_.assign(ids.begin(), ids.begin() + pages);
    for (const std::int64_t id : ids_) {
      std::memset(pages_view().page(id), 0, layout_.page_bytes());
    }
  }

  KvPages pages_view() { return {store_.data(), layout_.page_bytes()}; }
  const KvLayout& layout() const { return layout_; }
  const Shape& shape() const { return shape_; }

  void append(const Compute& compute, std::int64_t first, std::int64_t count) {
    std::vector<KvSlot> slots;
    for (std::int64_t t = first; t < first + count; ++t) {
      slots.push_back({ids_[static_cast<std::size_t>(t / kPageTokens)], static_cast<int>(t % kPageTokens)});
    }
    append_kv(compute, layout_, pages_view(), k.view().slice(first, count), v.view().slice(first, count), slots);
  }

  // The pages of the first `tokens` tokens, those of one member of `members`.
  std::vector<PageRef> refs(std::int64_t tokens, int member = 0, int members = 1) const {
    std::vector<PageRef> found;
    for (std::int64_t p = 0; p * kPageTokens < tokens; ++p) {
      const auto page_class = static_cast<int>(p % kPageClasses);
      if (page_class % members == member) {
        found.push_back(
            {.page_id = ids_[static_cast<std::size_t>(p)],
             .first_position = p * kPageTokens,
             .page_class = page_class,
             .valid_rows = static_cast<int>(std::min<std::int64_t>(kPageTokens, tokens - p * kPageTokens))});
      }
    }
    return found;
  }

  // Rows first .. first + count - 1 of the context, looking at pages of the first `tokens` tokens.
  Matrix answer(const Compute& compute, std::int64_t first, std::int64_t count, std::int64_t tokens) {
    Matrix out(count, q.columns);
    const std::vector<PageRef> found = refs(tokens);
    const std::vector<std::int64_t> positions = positions_from(first, count);
    const AttentionJob job{q.view().slice(first, count), positions, found, out.view()};
    attention(compute, layout_, pages_view(), {&job, 1});
    return out;
  }

  static std::vector<std::int64_t> positions_from(std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> positions(static_cast<std::size_t>(count));
    std::iota(positions.begin(), positions.end(), first);
    return positions;
  }

  HeadView head(std::int64_t row, int head) const {
    const int kv_head = head / (shape_.heads / shape_.kv_heads);
    return {q.row(row) + std::int64_t{head} * shape_.head_dim,
            k.row(0) + std::int64_t{kv_head} * shape_.head_dim,
            v.row(0) + std::int64_t{kv_head} * shape_.head_dim,
            k.columns,
            shape_.head_dim,
            layout_.precision == Precision::kBf16};
  }

  // What the rule says of the last rows.
  Matrix rule(Order order = Order::kRule) const {
    Matrix out(shape_.rows, q.columns);
    for (std::int64_t r = 0; r < shape_.rows; ++r) {
      const std::int64_t position = shape_.context - shape_.rows + r;
      for (int h = 0; h < shape_.heads; ++h) {
        const std::vector<float> answer = attend(head(position, h), position, order);
        std::copy(answer.begin(), answer.end(), out.row(r) + std::int64_t{h} * shape_.head_dim);
      }
    }
    return out;
  }

 private:
  Shape shape_;
  KvLayout layout_;
  std::vector<std::byte> store_;
  std::vector<std::int64_t> ids_;

 public:
  Matrix k, v, q;
};

::testing::AssertionResult same_bits(const Matrix& found, const Matrix& expected) {
  for (std::int64_t r = 0; r < expected.rows; ++r) {
    for (std::int64_t c = 0; c < expected.columns; ++c) {
      if (std::memcmp(found.row(r) + c, expected.row(r) + c, sizeof(float)) != 0) {
        return ::testing::AssertionFailure() << "row " << r << " column " << c << ": found " << found.row(r)[c]
                                             << ", expected " << expected.row(r)[c];
      }
    }
  }
  return ::testing::AssertionSuccess();
}

class AttentionTest : public ::testing::Test {
 protected:
  void SetUp() override { set_fp_environment(); }

  Compute compute(BodyKind kind, Precision precision, int threads = 1) {
    pools_.push_back(std::make_unique<ThreadPool>(threads));
    return {&body(kind), pools_.back().get(), precision};
  }
  // Bodies fast enough for long contexts.
  static std::vector<BodyKind> fast_bodies() {
    const BodyKind best = best_body();
    return best == BodyKind::kPortable ? std::vector<BodyKind>{best} : std::vector<BodyKind>{BodyKind::kAvx2, best};
  }

  std::vector<std::unique_ptr<ThreadPool>> pools_;
};

constexpr Precision kModes[] = {Precision::kBf16, Precision::kFp32};

TEST_F(AttentionTest, EveryBodyGivesTheBitsOfTheRule) {
  const Shape shapes[] = {
      {.heads = 1, .kv_heads = 1, .head_dim = 2, .context = 1, .rows = 1},
      {.heads = 4, .kv_heads = 2, .head_dim = 24, .context = 300, .rows = 300},
      {.heads = 8, .kv_heads = 2, .head_dim = 32, .context = 257, .rows = 17},
      {.heads = 8, .kv_heads = 2, .head_dim = 128, .context = 256, .rows = 2},
      {.heads = 16, .kv_heads = 1, .head_dim = 40, .context = 513, .rows = 17},
      {.heads = 64, .kv_heads = 4, .head_dim = 128, .context = 300, .rows = 1},
      {.heads = 1, .kv_heads = 1, .head_dim = 72, .context = 700, .rows = 255},
      {.heads = 2, .kv_heads = 1, .head_dim = 64, .context = 400, .rows = 256},
      {.heads = 3, .kv_heads = 1, .head_dim = 30, .context = 520, .rows = 257},
      {.heads = 48, .kv_heads = 1, .head_dim = 16, .context = 260, .rows = 3},
      {.heads = 4, .kv_heads = 2, .head_dim = 24, .context = 130 * kPageTokens + 77, .rows = 2},
      {.heads = 4, .kv_heads = 2, .head_dim = 24, .context = 300, .rows = 60, .size = 1e-37F},  // values that underflow
  };
  for (const Precision mode : kModes) {
    for (const Shape& shape : shapes) {
      Sequence sequence(shape, mode);
      const Matrix expected = sequence.rule();
      for (const BodyKind kind : bodies_here()) {
        SCOPED_TRACE(fmt::format("{} {} {}/{} x {} context {} rows {}", body_name(kind), mode_name(mode), shape.heads,
                                 shape.kv_heads, shape.head_dim, shape.context, shape.rows));
        const Compute with = compute(kind, mode);
        sequence.append(with, 0, shape.context);
        EXPECT_TRUE(same_bits(sequence.answer(with, shape.context - shape.rows, shape.rows, shape.context), expected));
      }
    }
  }
}

// The comparison can fail: the same arithmetic in another order of classes or of pages gives other bits.
TEST_F(AttentionTest, SwappedOrdersGiveOtherBits) {
  const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = 24, .context = 130 * kPageTokens + 77, .rows = 1};
  for (const Precision mode : kModes) {
    Sequence sequence(shape, mode);
    const Compute with = compute(best_body(), mode);
    sequence.append(with, 0, shape.context);
    const Matrix found = sequence.answer(with, shape.context - 1, 1, shape.context);
    EXPECT_TRUE(same_bits(found, sequence.rule()));
    EXPECT_FALSE(same_bits(found, sequence.rule(Order::kSwappedTree)));
    EXPECT_FALSE(same_bits(found, sequence.rule(Order::kSwappedPages)));
  }
}

TEST_F(AttentionTest, LiesWithinTheDerivedToleranceOfExactSoftmax) {
  for (const Precision mode : kModes) {
    for (const Shape& shape : {Shape{.heads = 4, .kv_heads = 2, .head_dim = 72, .context = 700, .rows = 20},
                               Shape{.heads = 16, .kv_heads = 1, .head_dim = 128, .context = 3000, .rows = 2}}) {
      Sequence sequence(shape, mode);
      const Compute with = compute(best_body(), mode);
      sequence.append(with, 0, shape.context);
      const Matrix found = sequence.answer(with, shape.context - shape.rows, shape.rows, shape.context);
      for (std::int64_t r = 0; r < shape.rows; ++r) {
        const std::int64_t position = shape.context - shape.rows + r;
        for (int h = 0; h < shape.heads; ++h) {
          const Exact exact = exact_attend(sequence.head(position, h), 0, position + 1);
          for (int d = 0; d < shape.head_dim; ++d) {
            const auto i = static_cast<std::size_t>(d);
            ASSERT_NEAR(found.row(r)[std::int64_t{h} * shape.head_dim + d], exact.out[i], exact.tolerance[i]);
          }
        }
      }
    }
  }
}

// A sequence written and answered chunk by chunk: no row knows how long its chunk was, nor that later tokens are there.
void expect_chunks_do_not_matter(const Compute& with, const Shape& shape) {
  Sequence whole(shape, with.precision);
  whole.append(with, 0, shape.context);
  const std::int64_t begin = shape.context - shape.rows;
  const Matrix expected = whole.answer(with, begin, shape.rows, shape.context);
  for (const std::int64_t chunk : {1, 16, 255, 256, 257}) {
    Sequence sequence(shape, with.precision);
    sequence.append(with, 0, begin);
    for (std::int64_t first = begin; first < shape.context; first += chunk) {
      const std::int64_t count = std::min(chunk, shape.context - first);
      sequence.append(with, first, count);
      const Matrix found = sequence.answer(with, first, count, first + count);
      Matrix part(count, expected.columns);
      std::copy_n(expected.row(first - begin), count * expected.columns, part.row(0));
      ASSERT_TRUE(same_bits(found, part)) << "chunk " << chunk << " at " << first;
    }
  }
}

TEST_F(AttentionTest, ChunksDoNotMatter) {
  for (const Precision mode : kModes) {
    for (const BodyKind kind : bodies_here()) {
      SCOPED_TRACE(fmt::format("{} {}", body_name(kind), mode_name(mode)));
      expect_chunks_do_not_matter(compute(kind, mode),
                                  {.heads = 4, .kv_heads = 2, .head_dim = 24, .context = 300, .rows = 60});
      expect_chunks_do_not_matter(
          compute(kind, mode), {.heads = 2, .kv_heads = 1, .head_dim = 24, .context = 300, .rows = 60, .size = 1e-37F});
    }
    for (const BodyKind kind : fast_bodies()) {
      expect_chunks_do_not_matter(
          compute(kind, mode, 2),
          {.heads = 4, .kv_heads = 2, .head_dim = 24, .context = 130 * kPageTokens + 77, .rows = 270});
      expect_chunks_do_not_matter(compute(kind, mode),
                                  {.heads = 16, .kv_heads = 1, .head_dim = 128, .context = 600, .rows = 600});
    }
  }
}

// Members of a span: each its own pages, partials merged with strides R/2 .. 1.
Matrix answer_by_members(const Compute& with, Sequence& sequence, std::int64_t first, std::int64_t rows, int members) {
  const Shape& shape = sequence.shape();
  struct Share {
    Matrix m, l, o;
    AttentionPartials view() { return {m.view(), l.view(), o.view()}; }
  };
  std::vector<Share> shares;
  const std::vector<std::int64_t> positions = Sequence::positions_from(first, rows);
  for (int member = 0; member < members; ++member) {
    shares.push_back({Matrix(rows, shape.heads), Matrix(rows, shape.heads), Matrix(rows, sequence.q.columns)});
    const std::vector<PageRef> refs = sequence.refs(shape.context, member, members);
    const AttentionJob job{sequence.q.view().slice(first, rows), positions, refs, {}};
    attention_partials(with, sequence.layout(), sequence.pages_view(), job, member, members, shares.back().view());
  }
  for (int stride = members / 2; stride > 0; stride /= 2) {
    for (int lower = 0; lower < stride; ++lower) {
      merge_partials(with, shape.head_dim, shares[static_cast<std::size_t>(lower)].view(),
                     shares[static_cast<std::size_t>(lower + stride)].view());
    }
  }
  Matrix out(rows, sequence.q.columns);
  finish_partials(with, shape.head_dim, shares[0].view(), out.view());
  return out;
}

TEST_F(AttentionTest, MembersDoNotMatter) {
  for (const Precision mode : kModes) {
    for (const std::int64_t context : {std::int64_t{133 * kPageTokens + 5}, std::int64_t{3 * kPageTokens + 1}}) {
      for (const std::int64_t rows : {1, 19}) {
        const Shape shape{.heads = 4, .kv_heads = 2, .head_dim = 24, .context = context, .rows = rows};
        Sequence sequence(shape, mode);
        sequence.append(compute(best_body(), mode), 0, context);
        const Matrix expected = sequence.answer(compute(best_body(), mode), context - rows, rows, context);
        for (const BodyKind kind : rows == 1 ? bodies_here() : fast_bodies()) {
          for (int members = 1; members <= kPageClasses; members *= 2) {
            const Compute with = compute(kind, mode, members % 4 + 1);
            EXPECT_TRUE(same_bits(answer_by_members(with, sequence, context - rows, rows, members), expected))
                << body_name(kind) << " " << mode_name(mode) << " members " << members << " rows " << rows;
          }
        }
      }
    }
  }
}

TEST_F(AttentionTest, ThreadsAndCompanyDoNotMatter) {
  for (const Precision mode : kModes) {
    // Sequences of one store each cannot share a call; rows of one sequence at several places of it can.
    const Shape shape{.heads = 8, .kv_heads = 2, .head_dim = 40, .context = 70 * kPageTokens + 9, .rows = 40};
    Sequence sequence(shape, mode);
    sequence.append(compute(best_body(), mode), 0, shape.context);
    const std::int64_t begin = shape.context - shape.rows;
    const Matrix expected = sequence.answer(compute(best_body(), mode), begin, shape.rows, shape.context);
    for (int threads = 1; threads <= 4; ++threads) {
      for (const BodyKind kind : fast_bodies()) {
        const Compute with = compute(kind, mode, threads);
        EXPECT_TRUE(same_bits(sequence.answer(with, begin, shape.rows, shape.context), expected)) << threads;
        // Every row a job of its own, all in one call, with another row of another length beside it.
        Matrix out(shape.rows, sequence.q.columns);
        Matrix other(1, sequence.q.columns);
        const std::vector<PageRef> refs = sequence.refs(shape.context);
        const std::vector<PageRef> few = sequence.refs(300);
        const std::vector<std::int64_t> positions = Sequence::positions_from(begin, shape.rows);
        const std::int64_t early = 290;
        std::vector<AttentionJob> jobs{{sequence.q.view().slice(early, 1), {&early, 1}, few, other.view()}};
        for (std::int64_t r = 0; r < shape.rows; ++r) {
          jobs.push_back({sequence.q.view().slice(begin + r, 1),
                          std::span(positions).subspan(static_cast<std::size_t>(r), 1), refs, out.view().slice(r, 1)});
        }
        attention(with, sequence.layout(), sequence.pages_view(), jobs);
        EXPECT_TRUE(same_bits(out, expected)) << threads;
        EXPECT_TRUE(same_bits(other, sequence.answer(with, early, 1, 300)));
      }
    }
  }
}

// Rows need not come in order, nor with all positions in between.
TEST_F(AttentionTest, RowsInAnyOrder) {
  const Shape shape{.heads = 4, .kv_heads = 2, .head_dim = 24, .context = 700, .rows = 700};
  for (const Precision mode : kModes) {
    Sequence sequence(shape, mode);
    sequence.append(compute(best_body(), mode), 0, shape.context);
    const Matrix expected = sequence.answer(compute(best_body(), mode), 0, shape.context, shape.context);
    for (const BodyKind kind : bodies_here()) {
      const std::vector<std::int64_t> positions{699, 3, 256, 255, 511, 512, 0, 130, 400};
      Matrix q(static_cast<std::int64_t>(positions.size()), sequence.q.columns);
      Matrix out(q.rows, q.columns);
      Matrix wanted(q.rows, q.columns);
      for (std::int64_t r = 0; r < q.rows; ++r) {
        const std::int64_t position = positions[static_cast<std::size_t>(r)];
        std::copy_n(sequence.q.row(position), q.columns, q.row(r));
        std::copy_n(expected.row(position), q.columns, wanted.row(r));
      }
      const std::vector<PageRef> refs = sequence.refs(shape.context);
      const AttentionJob job{q.view(), positions, refs, out.view()};
      attention(compute(kind, mode), sequence.layout(), sequence.pages_view(), {&job, 1});
      EXPECT_TRUE(same_bits(out, wanted)) << body_name(kind);
    }
  }
}

// What lies beyond a row's own position, even NaN in a page it sees, never reaches the row.
TEST_F(AttentionTest, NanBeyondTheCausalLimitStaysThere) {
  for (const Precision mode : kModes) {
    for (const BodyKind kind : bodies_here()) {
      for (const std::int64_t limit : {1, 2, 17, 255, 256, 289, 290}) {
        const Shape shape{.heads = 8, .kv_heads = 2, .head_dim = 24, .context = 600, .rows = 600};
        const Compute with = compute(kind, mode);
        Sequence clean(shape, mode);
        Sequence stained(shape, mode);
        std::fill(stained.k.row(limit), stained.k.row(600), kNan);
        std::fill(stained.v.row(limit), stained.v.row(600), kNan);
        clean.append(with, 0, 600);
        stained.append(with, 0, 600);
        // The tile also holds rows that do see the NaN.
        const Matrix found = stained.answer(with, 0, limit + 3, 600);
        Matrix seen(limit, found.columns);
        std::copy_n(found.row(0), limit * found.columns, seen.row(0));
        EXPECT_TRUE(same_bits(seen, clean.answer(with, 0, limit, 600))) << body_name(kind) << " " << limit;
        for (std::int64_t c = 0; c < found.columns; ++c) {
          EXPECT_TRUE(std::isnan(found.row(limit)[c])) << "a NaN that a row sees must reach its answer";
        }
      }
    }
  }
}

// One NaN key in one class of many is not lost when classes meet.
TEST_F(AttentionTest, NanInOneClassReachesTheAnswer) {
  const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = 24, .context = 6 * kPageTokens, .rows = 1};
  for (const Precision mode : kModes) {
    for (const BodyKind kind : bodies_here()) {
      Sequence sequence(shape, mode);
      std::fill(sequence.k.row(kPageTokens), sequence.k.row(2 * kPageTokens), kNan);
      const Compute with = compute(kind, mode);
      sequence.append(with, 0, shape.context);
      const Matrix found = sequence.answer(with, shape.context - 1, 1, shape.context);
      EXPECT_TRUE(std::isnan(found.row(0)[0])) << body_name(kind);
    }
  }
}

// A score of -0 is a maximum of zero like +0, in the partial too.
TEST_F(AttentionTest, PartialsAreTheSameInEveryBody) {
  const Shape shape{.heads = 4, .kv_heads = 2, .head_dim = 24, .context = 400, .rows = 5};
  for (const Precision mode : kModes) {
    Matrix expected;
    for (const BodyKind kind : bodies_here()) {
      Sequence sequence(shape, mode);
      std::fill(sequence.q.row(397), sequence.q.row(398), -0.0F);
      const Compute with = compute(kind, mode);
      sequence.append(with, 0, shape.context);
      Matrix all(3, std::int64_t{5} * 4 * 24);
      const std::vector<std::int64_t> positions = Sequence::positions_from(395, 5);
      const std::vector<PageRef> refs = sequence.refs(shape.context);
      const AttentionJob job{sequence.q.view().slice(395, 5), positions, refs, {}};
      attention_partials(with, sequence.layout(), sequence.pages_view(), job, 0, 1,
                         {{all.row(0), 5, 4}, {all.row(1), 5, 4}, {all.row(2), 5, 4 * 24}});
      if (expected.rows == 0) {
        expected = all;
        EXPECT_FALSE(std::signbit(all.row(0)[2 * 4]));
      }
      EXPECT_TRUE(same_bits(all, expected)) << body_name(kind);
    }
  }
}

TEST_F(AttentionTest, RowWithoutPagesIsAnEmptyPartial) {
  const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = 24, .context = 100, .rows = 2};
  Sequence sequence(shape, Precision::kBf16);
  const Compute with = compute(best_body(), Precision::kBf16);
  Matrix m(2, 2);
  Matrix l(2, 2);
  Matrix o(2, 48);
  std::fill(o.numbers.begin(), o.numbers.end(), 7.0F);
  const std::vector<std::int64_t> positions{98, 99};
  attention_partials(with, sequence.layout(), sequence.pages_view(),
                     {sequence.q.view().slice(98, 2), positions, {}, {}}, 1, 2, {m.view(), l.view(), o.view()});
  EXPECT_EQ(m.numbers, std::vector<float>(4, kNoPartial));
  EXPECT_EQ(l.numbers, std::vector<float>(4, 0.0F));
  EXPECT_EQ(o.numbers, std::vector<float>(96, 0.0F));
}

TEST_F(AttentionTest, PagesHoldWhatTheyNeed) {
  EXPECT_EQ((KvLayout{4, 128, Precision::kBf16}.head_bytes()), std::size_t{2 * 256 * 128 * 2});
  EXPECT_EQ((KvLayout{4, 128, Precision::kFp32}.page_bytes()), std::size_t{4 * 2 * 256 * 128 * 4});
  // Columns of V are padded to panels of 16.
  EXPECT_EQ((KvLayout{1, 72, Precision::kBf16}.head_bytes()), std::size_t{256 * (72 + 80) * 2});
}

TEST_F(AttentionTest, BrokenContractsAreCaught) {
  const Shape shape{.heads = 2, .kv_heads = 1, .head_dim = 24, .context = 600, .rows = 1};
  Sequence sequence(shape, Precision::kBf16);
  const Compute with = compute(best_body(), Precision::kBf16);
  sequence.append(with, 0, 600);
  const std::int64_t position = 599;
  Matrix out(1, 48);
  std::vector<PageRef> refs = sequence.refs(600);
  const auto run = [&] {
    const AttentionJob job{sequence.q.view().slice(599, 1), {&position, 1}, refs, out.view()};
    attention(with, sequence.layout(), sequence.pages_view(), {&job, 1});
  };
  run();
  std::swap(refs[0], refs[1]);
  EXPECT_DEATH(run(), "increasing order");
  std::swap(refs[0], refs[1]);
  refs[1].page_class = 2;
  EXPECT_DEATH(run(), "class of a page");
  refs.clear();
  EXPECT_DEATH(run(), "sees no token");
  const KvSlot slot{0, 256};
  EXPECT_DEATH(append_kv(with, sequence.layout(), sequence.pages_view(), sequence.k.view().slice(0, 1),
                         sequence.v.view().slice(0, 1), {&slot, 1}),
               "row of a page");
}

}  // namespace
}  // namespace zoetrope
