// The reference's bicubic resampler for 8-bit pictures (antialiased, fixed point), bit for bit: docs of the reference
// model, "the bicubic resampler". Horizontal pass first, its result rounded to 8 bits, then vertical.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/media/picture.h"

namespace zoetrope {

// Weights of one axis: output i is sum_j weight[i][j] * in[first[i] + j], rounded and shifted right by `shift`.
struct ResizeAxis {
  ResizeAxis(int size_in, int size_out);
  int size_in, size_out;
  int shift = 0;
  int taps = 0;                      // weights stored for each output, a multiple of 4; those behind count are zero
  std::vector<std::int32_t> first;   // [size_out]
  std::vector<std::int32_t> count;   // [size_out]
  std::vector<std::int16_t> weight;  // [size_out, taps]
  // As vectors multiply them, `blocks` of 16 taps for each output, zero behind count: for every two taps four times the
  // pair [size_out, blocks, 8, 4, 2]; and 256 * high + low, for every four taps four times the four high bytes, behind
  // a block's high ones its low ones [size_out, blocks, 2, 4, 4, 4]. The second is empty where a weight does not fit in
  // it.
  int blocks = 0;
  std::vector<std::int16_t> pairs;
  std::vector<std::int8_t> fours;

 private:
  void spread_weights();
};

// Bytes behind a row of pixels that the vector bodies may read (and multiply with zero).
constexpr std::size_t kRowSlackBytes = 64;

// Resizes pictures of one size to one other size; keeps its weights and work memory. One resizer, one thread.
class Resizer {
 public:
  Resizer(int height_in, int width_in, int height_out, int width_out);

  // in [height_in, width_in, 3] with rows of `stride_bytes`, out [height_out, width_out, 3] without padding.
  void apply(const std::uint8_t* in, std::ptrdiff_t stride_bytes, std::span<std::uint8_t> out);
  // The same in parts, while rows are in the cache: the rows [first, first + rows), all once, in any order, with
  // kRowSlackBytes that may be read behind each; then the result.
  void take_rows(int first, int rows, const std::uint8_t* in, std::ptrdiff_t stride_bytes);
  void finish(std::span<std::uint8_t> out);

  int height_in() const { return rows_.size_in; }
  int width_in() const { return columns_.size_in; }

 private:
  ResizeAxis rows_, columns_;
  std::vector<std::uint8_t> narrow_;  // [height_in, width_out, 3]: after the horizontal pass
};

void resize_bicubic(const Picture& in, int height, int width, Picture& out);

namespace detail {
// The two passes in plain integers, with AVX2, and with AVX-512 (VBMI and VNNI). Same bits; a resizer takes the last
// that the processor has. `line` holds size_in pixels and kRowSlackBytes behind them.
void resize_row_plain(const ResizeAxis& axis, const std::uint8_t* line, std::uint8_t* out);
void resize_column_plain(const ResizeAxis& axis, int y, const std::uint8_t* in, std::size_t row_bytes,
                         std::uint8_t* out);
bool avx2_present();
bool avx512_present();
void resize_row_avx2(const ResizeAxis& axis, const std::uint8_t* line, std::uint8_t* out);
void resize_rows_avx512(const ResizeAxis& axis, const std::uint8_t* const lines[4], std::uint8_t* const outs[4]);
void resize_column_avx2(const ResizeAxis& axis, int y, const std::uint8_t* in, std::size_t row_bytes,
                        std::uint8_t* out);
}  // namespace detail

}  // namespace zoetrope
