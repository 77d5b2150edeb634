// kernels/segment_attention.cc against rule 4's arithmetic of a page, walked as one running partial over blocks of 256
// keys.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "kernels/attention.h"
#include "tests/kernels/attention_case.h"

namespace zoetrope {
namespace {

using namespace attention_case;  // NOLINT: the test's own vocabulary

struct Frames {
  int heads;
  int head_dim;
  std::vector<std::int64_t> segment_rows;
  Matrix q, k, v;

  Frames(int heads_, int head_dim_, std::vector<std::int64_t> segments, Precision mode)
      : heads(heads_), head_dim(head_dim_), segment_rows(std::move(segments)) {
    const std::int64_t rows = std::accumulate(segment_rows.begin(), segment_rows.end(), std::int64_t{0});
    const std::int64_t columns = std::int64_t{heads} * head_dim;
    q = Matrix::random(rows, columns, mode, 11, 2.0F);
    k = Matrix::random(rows, columns, mode, 12);
    v = Matrix::random(rows, columns, mode, 13);
  }
  Matrix answer(const Compute& with) const {
    Matrix out(q.rows, q.columns);
    segment_attention(with, heads, q.view(), k.view(), v.view(), segment_rows, out.view());
    return out;
  }
  HeadView head(std::int64_t row, int h, bool bf16) const {
    const std::int64_t column = std::int64_t{h} * head_dim;
    return {q.row(row) + column, k.row(0) + column, v.row(0) + column, k.columns, head_dim, bf16};
  }
};

std::vector<float> rule(const HeadView& view, std::int64_t first, std::int64_t last) {
  Partial partial;
  for (std::int64_t key = first; key < last; key += kPageTokens) {
    see(view, key, std::min(last, key + kPageTokens), partial);
  }
  return finish(partial);
}

class SegmentAttentionTest : public ::testing::Test {
 protected:
  void SetUp() override { set_fp_environment(); }
  Compute compute(BodyKind kind, Precision precision, int threads = 1) {
    pools_.push_back(std::make_unique<ThreadPool>(threads));
    return {&body(kind), pools_.back().get(), precision};
  }
  std::vector<std::unique_ptr<ThreadPool>> pools_;
};

constexpr Precision kModes[] = {Precision::kBf16, Precision::kFp32};

TEST_F(SegmentAttentionTest, EveryBodyGivesTheBitsOfTheRule) {
  for (const Precision mode : kModes) {
    for (const Frames& frames : {Frames(2, 24, {1, 17, 256, 0, 255}, mode), Frames(3, 72, {60, 258}, mode),
                                 Frames(1, 128, {300}, mode), Frames(2, 64, {513}, mode)}) {
      Matrix expected(frames.q.rows, frames.q.columns);
      std::int64_t first = 0;
      for (const std::int64_t rows : frames.segment_rows) {
        for (std::int64_t r = first; r < first + rows; ++r) {
          for (int h = 0; h < frames.heads; ++h) {
            const std::vector<float> row = rule(frames.head(r, h, mode == Precision::kBf16), first, first + rows);
            std::copy(row.begin(), row.end(), expected.row(r) + std::int64_t{h} * frames.head_dim);
          }
        }
        first += rows;
      }
      for (const BodyKind kind : bodies_here()) {
        for (int threads = 1; threads <= (kind == best_body() ? 4 : 1); ++threads) {
          EXPECT_EQ(std::memcmp(frames.answer(compute(kind, mode, threads)).row(0), expected.row(0),
                                expected.numbers.size() * sizeof(float)),
                    0)
              << body_name(kind) << " " << mode_name(mode) << " " << frames.heads << " x " << frames.head_dim
              << " threads " << threads;
        }
      }
    }
  }
}

TEST_F(SegmentAttentionTest, LiesWithinTheDerivedToleranceOfExactSoftmax) {
  for (const Precision mode : kModes) {
    const Frames frames(4, 72, {300, 700}, mode);
    const Matrix found = frames.answer(compute(best_body(), mode));
    for (const std::int64_t row : {0, 299, 300, 999}) {
      for (int h = 0; h < frames.heads; ++h) {
        const Exact exact = row < 300 ? exact_attend(frames.head(row, h, mode == Precision::kBf16), 0, 300)
                                      : exact_attend(frames.head(row, h, mode == Precision::kBf16), 300, 1000);
        for (int d = 0; d < frames.head_dim; ++d) {
          const auto i = static_cast<std::size_t>(d);
          ASSERT_NEAR(found.row(row)[std::int64_t{h} * frames.head_dim + d], exact.out[i], exact.tolerance[i]);
        }
      }
    }
  }
}

// So many segments that they are packed in several goes: a segment's answer does not know which others are in the call.
TEST_F(SegmentAttentionTest, CompanyDoesNotMatter) {
  for (const Precision mode : kModes) {
    std::vector<std::int64_t> segments(50, 3);
    segments.push_back(40);
    const Frames frames(16, 128, segments, mode);
    const Compute with = compute(best_body(), mode, 2);
    const Matrix found = frames.answer(with);
    std::int64_t first = 0;
    for (const std::int64_t rows : segments) {
      Matrix alone(rows, frames.q.columns);
      segment_attention(with, 16, frames.q.view().slice(first, rows), frames.k.view().slice(first, rows),
                        frames.v.view().slice(first, rows), {&rows, 1}, alone.view());
      ASSERT_EQ(std::memcmp(alone.row(0), found.row(first), alone.numbers.size() * sizeof(float)), 0) << first;
      first += rows;
    }
  }
}

// q, k and v may be views with distances of their own, as the vision tower's are.
TEST_F(SegmentAttentionTest, StridesDoNotMatter) {
  for (const Precision mode : kModes) {
    const Frames frames(2, 24, {33, 300}, mode);
    const Compute with = compute(best_body(), mode);
    const Matrix expected = frames.answer(with);
    const auto spread = [](const Matrix& from, std::int64_t stride, std::vector<float>& memory) {
      memory.assign(static_cast<std::size_t>(from.rows * stride), std::numeric_limits<float>::quiet_NaN());
      for (std::int64_t r = 0; r < from.rows; ++r) {
        std::copy_n(from.row(r), from.columns, memory.data() + r * stride);
      }
      return Rows<const float>(memory.data(), from.rows, from.columns, stride);
    };
    std::vector<float> q, k, v;
    Matrix out(expected.rows, expected.columns);
    segment_attention(with, 2, spread(frames.q, 49, q), spread(frames.k, 50, k), spread(frames.v, 144, v),
                      frames.segment_rows, out.view());
    EXPECT_EQ(std::memcmp(out.row(0), expected.row(0), expected.numbers.size() * sizeof(float)), 0);
  }
}

TEST_F(SegmentAttentionTest, NoSegmentsAreNoWork) {
  const Frames frames(2, 24, {}, Precision::kBf16);
  EXPECT_TRUE(frames.answer(compute(best_body(), Precision::kBf16)).numbers.empty());
}

TEST_F(SegmentAttentionTest, RowsOutsideAllSegmentsAreCaught) {
  const Frames frames(2, 24, {5}, Precision::kBf16);
  const Compute with = compute(best_body(), Precision::kBf16);
  Matrix out(5, 48);
  const std::int64_t rows = 4;
  EXPECT_DEATH(segment_attention(with, 2, frames.q.view(), frames.k.view(), frames.v.view(), {&rows, 1}, out.view()),
               "rows of all segments");
}

}  // namespace
}  // namespace zoetrope
