#include "runtime/media/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "monitoring/check.h"

#if defined(__x86_64__)
#pragma GCC diagnostic push  // GCC 12 takes the intrinsics' own undefined values for a mistake of ours
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace zoetrope {
namespace {

constexpr int kTapsOfBlock = 16;

// Keys' cubic with a = -0.5.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) {
    return ((a + 2) * x - (a + 3)) * x * x + 1;
  }
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

std::uint8_t clamped(std::int32_t sum, int shift) {
  return static_cast<std::uint8_t>(std::clamp(sum >> shift, 0, 255));
}

}  // namespace

ResizeAxis::ResizeAxis(int size_in_, int size_out_) : size_in(size_in_), size_out(size_out_) {
  check(size_in > 0 && size_out > 0, "a picture side is positive");
  const double scale = static_cast<double>(size_in) / size_out;
  const double reach = scale >= 1 ? 2 * scale : 2.0;
  const double inverse = scale >= 1 ? 1 / scale : 1.0;
  std::vector<std::vector<double>> exact(static_cast<std::size_t>(size_out));
  double largest = 0;
  for (int i = 0; i < size_out; ++i) {
    const double centre = scale * (i + 0.5);
    const int x0 = std::max(static_cast<int>(centre - reach + 0.5), 0);
    const int n = std::min(static_cast<int>(centre + reach + 0.5), size_in) - x0;
    auto& w = exact[static_cast<std::size_t>(i)];
    double total = 0;
    for (int j = 0; j < n; ++j) {
      w.push_back(cubic((j + x0 - centre + 0.5) * inverse));
      total += w.back();
    }
    for (double& v : w) {
      v = total != 0 ? v / total : v;
      largest = std::max(largest, v);
    }
    first.push_back(x0);
    count.push_back(n);
    taps = std::max(taps, n);
  }
  while (shift < 22 && static_cast<int>(0.5 + largest * (1 << (shift + 1))) < 32768) {
    ++shift;
  }
  taps = round_up(taps, 4);
  weight.assign(static_cast<std::size_t>(size_out) * static_cast<std::size_t>(taps), 0);
  for (int i = 0; i < size_out; ++i) {
    std::int16_t* row = weight.data() + static_cast<std::ptrdiff_t>(i) * taps;
    for (const double v : exact[static_cast<std::size_t>(i)]) {
      *row++ = static_cast<std::int16_t>(static_cast<int>(v * (1 << shift) + (v >= 0 ? 0.5 : -0.5)));
    }
  }
  spread_weights();
}

void ResizeAxis::spread_weights() {
  constexpr int kLowMax = 127, kHighMax = 127;
  blocks = div_ceil(taps, kTapsOfBlock);
  const std::size_t values = static_cast<std::size_t>(size_out) * static_cast<std::size_t>(blocks) * kTapsOfBlock * 4;
  pairs.assign(values, 0);
  const bool fit =
      std::ranges::all_of(weight, [](int w) { return w <= 256 * kHighMax + kLowMax && w >= -256 * kHighMax; });
  fours.assign(fit ? 2 * values : 0, 0);
  for (int i = 0; i < size_out; ++i) {
    for (int tap = 0; tap < count[static_cast<std::size_t>(i)]; ++tap) {
      const int w =
          weight[static_cast<std::size_t>(i) * static_cast<std::size_t>(taps) + static_cast<std::size_t>(tap)];
      const auto block = (static_cast<std::size_t>(i) * static_cast<std::size_t>(blocks) +
                          static_cast<std::size_t>(tap / kTapsOfBlock)) *
                         kTapsOfBlock * 4;
      const auto low = static_cast<std::int8_t>(w);
      for (int copy = 0; copy < 4; ++copy) {
        const int in_block = tap % kTapsOfBlock;
        pairs[block + static_cast<std::size_t>(in_block / 2 * 8 + copy * 2 + in_block % 2)] =
            static_cast<std::int16_t>(w);
        if (fit) {
          const std::size_t at = 2 * block + static_cast<std::size_t>(in_block / 4 * 16 + copy * 4 + in_block % 4);
          fours[at] = static_cast<std::int8_t>((w - low) / 256);
          fours[at + kTapsOfBlock * 4] = low;
        }
      }
    }
  }
}

namespace detail {

void resize_row_plain(const ResizeAxis& axis, const std::uint8_t* line, std::uint8_t* out) {
  for (int i = 0; i < axis.size_out; ++i) {
    const std::int16_t* w = axis.weight.data() + static_cast<std::ptrdiff_t>(i) * axis.taps;
    const std::uint8_t* p = line + static_cast<std::ptrdiff_t>(axis.first[static_cast<std::size_t>(i)]) * 3;
    std::int32_t sum[3] = {1 << (axis.shift - 1), 1 << (axis.shift - 1), 1 << (axis.shift - 1)};
    for (int j = 0; j < axis.count[static_cast<std::size_t>(i)]; ++j, p += 3) {
      sum[0] += w[j] * p[0];
      sum[1] += w[j] * p[1];
      sum[2] += w[j] * p[2];
    }
    for (const std::int32_t s : sum) {
      *out++ = clamped(s, axis.shift);
    }
  }
}

void resize_column_plain(const ResizeAxis& axis, int y, const std::uint8_t* in, std::size_t row_bytes,
                         std::uint8_t* out) {
  const std::int16_t* w = axis.weight.data() + static_cast<std::ptrdiff_t>(y) * axis.taps;
  const std::uint8_t* top = in + static_cast<std::size_t>(axis.first[static_cast<std::size_t>(y)]) * row_bytes;
  for (std::size_t x = 0; x < row_bytes; ++x) {
    std::int32_t sum = 1 << (axis.shift - 1);
    for (int j = 0; j < axis.count[static_cast<std::size_t>(y)]; ++j) {
      sum += w[j] * top[static_cast<std::size_t>(j) * row_bytes + x];
    }
    out[x] = clamped(sum, axis.shift);
  }
}

#if defined(__x86_64__)

bool avx2_present() {
  static const bool present = __builtin_cpu_supports("avx2") > 0;
  return present;
}

bool avx512_present() {
  static const bool present = __builtin_cpu_supports("avx512vbmi") > 0 && __builtin_cpu_supports("avx512vnni") > 0 &&
                              __builtin_cpu_supports("avx512bw") > 0 && __builtin_cpu_supports("avx512vl") > 0;
  return present;
}

// The sums of one pixel's channels, in the low three lanes, to its three bytes.
__attribute__((target("avx2"))) inline void write_pixel(__m128i sums, int shift, std::uint8_t* out) {
  __m128i total = _mm_sra_epi32(_mm_add_epi32(sums, _mm_set1_epi32(1 << (shift - 1))), _mm_cvtsi32_si128(shift));
  total = _mm_packs_epi32(total, total);
  const auto rgb = static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_packus_epi16(total, total)));
  std::memcpy(out, &rgb, 3);
}

// Four taps at a time: the low lane holds taps 0 and 1, the high lane 2 and 3, as pairs (r0 r1) (g0 g1) (b0 b1).
__attribute__((target("avx2"))) void resize_row_avx2(const ResizeAxis& axis, const std::uint8_t* line,
                                                     std::uint8_t* out) {
  constexpr char z = -128;  // byte shuffles write zero for these
  const __m256i pixel_pairs = _mm256_setr_epi8(0, z, 3, z, 1, z, 4, z, 2, z, 5, z, z, z, z, z,  //
                                               6, z, 9, z, 7, z, 10, z, 8, z, 11, z, z, z, z, z);
  for (int i = 0; i < axis.size_out; ++i, out += 3) {
    const std::int16_t* w = axis.pairs.data() + static_cast<std::ptrdiff_t>(i) * axis.blocks * kTapsOfBlock * 4;
    const std::uint8_t* p = line + static_cast<std::ptrdiff_t>(axis.first[static_cast<std::size_t>(i)]) * 3;
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < axis.count[static_cast<std::size_t>(i)]; j += 4, p += 12, w += 16) {
      const __m256i pixels = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, pixel_pairs), weights));
    }
    write_pixel(_mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1)), axis.shift, out);
  }
}

// Four rows together, as the weights take most of the innermost cache. Sixteen taps at a time, four in each of the four
// lanes: (r0 r1 r2 r3) (g0 ...) (b0 ...). Sums of high and of low bytes apart.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni"))) void resize_rows_avx512(
    const ResizeAxis& axis, const std::uint8_t* const lines[4], std::uint8_t* const outs[4]) {
  if (axis.fours.empty()) {
    for (int row = 0; row < 4; ++row) {
      resize_row_avx2(axis, lines[row], outs[row]);
    }
    return;
  }
  alignas(64) std::uint8_t places[64] =
      {};  // of the byte in a block of sixteen pixels; the last of four has no weight that counts
  for (int at = 0; at < 64; ++at) {
    places[at] = static_cast<std::uint8_t>((at / 16 * 4 + at % 4) * 3 + std::min(at % 16 / 4, 2));
  }
  const __m512i by_channel = _mm512_load_si512(places);
  const __m512i half = _mm512_set1_epi32(1 << (axis.shift - 1));
  const __m128i shift = _mm_cvtsi32_si128(axis.shift);
  for (int i = 0; i < axis.size_out; ++i) {
    const std::int8_t* w = axis.fours.data() + static_cast<std::ptrdiff_t>(i) * axis.blocks * kTapsOfBlock * 8;
    std::ptrdiff_t at = std::ptrdiff_t{axis.first[static_cast<std::size_t>(i)]} * 3;
    __m512i high[4] = {}, low[4] = {};
    for (int j = 0; j < axis.count[static_cast<std::size_t>(i)];
         j += kTapsOfBlock, at += 3 * kTapsOfBlock, w += 8 * kTapsOfBlock) {
      const __m512i high_weights = _mm512_loadu_si512(w), low_weights = _mm512_loadu_si512(w + 4 * kTapsOfBlock);
      for (int row = 0; row < 4; ++row) {
        const __m512i pixels = _mm512_permutexvar_epi8(by_channel, _mm512_loadu_si512(lines[row] + at));
        high[row] = _mm512_dpbusd_epi32(high[row], pixels, high_weights);
        low[row] = _mm512_dpbusd_epi32(low[row], pixels, low_weights);
      }
    }
    __m512i sum[4];
    for (int row = 0; row < 4; ++row) {
      sum[row] = _mm512_add_epi32(_mm512_slli_epi32(high[row], 8), low[row]);
    }
    // A row's lanes to one lane, a lane for each row.
    const __m512i first =
        _mm512_add_epi32(_mm512_shuffle_i32x4(sum[0], sum[1], 0x44), _mm512_shuffle_i32x4(sum[0], sum[1], 0xee));
    const __m512i second =
        _mm512_add_epi32(_mm512_shuffle_i32x4(sum[2], sum[3], 0x44), _mm512_shuffle_i32x4(sum[2], sum[3], 0xee));
    __m512i total =
        _mm512_add_epi32(_mm512_shuffle_i32x4(first, second, 0x88), _mm512_shuffle_i32x4(first, second, 0xdd));
    total = _mm512_sra_epi32(_mm512_add_epi32(total, half), shift);
    alignas(16) std::uint8_t rgb[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(rgb),
                    _mm512_cvtusepi32_epi8(_mm512_max_epi32(total, _mm512_setzero_si512())));
    for (int row = 0; row < 4; ++row) {
      std::memcpy(outs[row] + 3 * i, rgb + 4 * row, 3);
    }
  }
}

__attribute__((target("avx2"))) void resize_column_avx2(const ResizeAxis& axis, int y, const std::uint8_t* in,
                                                        std::size_t row_bytes, std::uint8_t* out) {
  const std::int16_t* w = axis.weight.data() + static_cast<std::ptrdiff_t>(y) * axis.taps;
  const std::uint8_t* top = in + static_cast<std::size_t>(axis.first[static_cast<std::size_t>(y)]) * row_bytes;
  const int n = axis.count[static_cast<std::size_t>(y)];
  const __m256i half = _mm256_set1_epi32(1 << (axis.shift - 1));
  const __m128i shift = _mm_cvtsi32_si128(axis.shift);
  std::size_t x = 0;
  for (; x + 16 <= row_bytes; x += 16) {
    __m256i low = half;  // bytes 0..3 and 8..11, as unpacklo leaves them
    __m256i high = half;
    for (int j = 0; j < n; j += 2) {
      const std::uint8_t* p = top + static_cast<std::size_t>(j) * row_bytes + x;
      const bool pair = j + 1 < n;  // the last odd row is paired with itself and weight zero
      const __m256i a = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      const __m256i b =
          _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pair ? p + row_bytes : p)));
      const std::uint32_t both = static_cast<std::uint16_t>(w[j]) |
                                 static_cast<std::uint32_t>(static_cast<std::uint16_t>(pair ? w[j + 1] : 0)) << 16;
      const __m256i weights = _mm256_set1_epi32(static_cast<std::int32_t>(both));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), weights));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), weights));
    }
    const __m256i words = _mm256_packs_epi32(_mm256_sra_epi32(low, shift), _mm256_sra_epi32(high, shift));
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + x), bytes);
  }
  for (; x < row_bytes; ++x) {
    std::int32_t sum = 1 << (axis.shift - 1);
    for (int j = 0; j < n; ++j) {
      sum += w[j] * top[static_cast<std::size_t>(j) * row_bytes + x];
    }
    out[x] = clamped(sum, axis.shift);
  }
}

#else

bool avx2_present() { return false; }
bool avx512_present() { return false; }
void resize_row_avx2(const ResizeAxis& axis, const std::uint8_t* line, std::uint8_t* out) {
  resize_row_plain(axis, line, out);
}
void resize_rows_avx512(const ResizeAxis& axis, const std::uint8_t* const lines[4], std::uint8_t* const outs[4]) {
  for (int row = 0; row < 4; ++row) {
    resize_row_plain(axis, lines[row], outs[row]);
  }
}
void resize_column_avx2(const ResizeAxis& axis, int y, const std::uint8_t* in, std::size_t row_bytes,
                        std::uint8_t* out) {
  resize_column_plain(axis, y, in, row_bytes, out);
}

#endif

}  // namespace detail

Resizer::Resizer(int height_in, int width_in, int height_out, int width_out)
    : rows_(height_in, height_out),
      columns_(width_in, width_out),
      narrow_(static_cast<std::size_t>(height_in) * static_cast<std::size_t>(width_out) * 3) {}

void Resizer::apply(const std::uint8_t* in, std::ptrdiff_t stride_bytes, std::span<std::uint8_t> out) {
  const int last = rows_.size_in - 1;
  const auto row_bytes = static_cast<std::size_t>(columns_.size_in) * 3;
  // What lies behind a row is the next one; behind the last one nothing may be read.
  const std::size_t rows_behind = (kRowSlackBytes + row_bytes - 1) / row_bytes;
  const int safe = std::max(0, last + 1 - static_cast<int>(rows_behind));
  take_rows(0, safe, in, stride_bytes);
  std::vector<std::uint8_t> line(row_bytes + kRowSlackBytes);
  for (int y = safe; y <= last; ++y) {
    std::memcpy(line.data(), in + y * stride_bytes, row_bytes);
    take_rows(y, 1, line.data(), 0);
  }
  finish(out);
}

void Resizer::take_rows(int first, int rows, const std::uint8_t* in, std::ptrdiff_t stride_bytes) {
  check(first >= 0 && rows >= 0 && first + rows <= rows_.size_in, "rows of the picture that is resized");
  const std::size_t out_row = static_cast<std::size_t>(columns_.size_out) * 3;
  std::uint8_t* to = narrow_.data() + static_cast<std::size_t>(first) * out_row;
  if (columns_.size_in == columns_.size_out) {
    for (int y = 0; y < rows; ++y) {
      std::memcpy(to + static_cast<std::size_t>(y) * out_row, in + y * stride_bytes, out_row);
    }
    return;
  }
  int y = 0;
  for (; detail::avx512_present() && y + 4 <= rows; y += 4, in += 4 * stride_bytes, to += 4 * out_row) {
    const std::uint8_t* const lines[4] = {in, in + stride_bytes, in + 2 * stride_bytes, in + 3 * stride_bytes};
    std::uint8_t* const outs[4] = {to, to + out_row, to + 2 * out_row, to + 3 * out_row};
    detail::resize_rows_avx512(columns_, lines, outs);
  }
  const auto narrow = detail::avx2_present() ? detail::resize_row_avx2 : detail::resize_row_plain;
  for (; y < rows; ++y, in += stride_bytes, to += out_row) {
    narrow(columns_, in, to);
  }
}

void Resizer::finish(std::span<std::uint8_t> out) {
  const std::size_t out_row = static_cast<std::size_t>(columns_.size_out) * 3;
  check_eq(out.size(), static_cast<std::size_t>(rows_.size_out) * out_row, "bytes of the resized picture");
  if (rows_.size_in == rows_.size_out) {
    std::memcpy(out.data(), narrow_.data(), out.size());
    return;
  }
  const auto shorten = detail::avx2_present() ? detail::resize_column_avx2 : detail::resize_column_plain;
  for (int y = 0; y < rows_.size_out; ++y) {
    shorten(rows_, y, narrow_.data(), out_row, out.data() + static_cast<std::size_t>(y) * out_row);
  }
}

void resize_bicubic(const Picture& in, int height, int width, Picture& out) {
  if (in.height == height && in.width == width) {
    out = in;
    return;
  }
  out = Picture::blank(height, width);
  Resizer(in.height, in.width, height, width).apply(in.rgb.data(), static_cast<std::ptrdiff_t>(in.width) * 3, out.rgb);
}

}  // namespace zoetrope
