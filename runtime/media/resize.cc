#include "runtime/media/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "monitoring/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace zoetrope {
namespace {

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

// Four taps at a time: the low lane holds taps 0 and 1, the high lane 2 and 3, as pairs (r0 r1) (g0 g1) (b0 b1).
__attribute__((target("avx2"))) void resize_row_avx2(const ResizeAxis& axis, const std::uint8_t* line,
                                                     std::uint8_t* out) {
  constexpr char z = -128;  // byte shuffles write zero for these
  const __m256i pixel_pairs = _mm256_setr_epi8(0, z, 3, z, 1, z, 4, z, 2, z, 5, z, z, z, z, z,  //
                                               6, z, 9, z, 7, z, 10, z, 8, z, 11, z, z, z, z, z);
  const __m256i weight_pairs = _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,  //
                                                4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
  const __m128i half = _mm_set1_epi32(1 << (axis.shift - 1));
  const __m128i shift = _mm_cvtsi32_si128(axis.shift);
  for (int i = 0; i < axis.size_out; ++i) {
    const std::int16_t* w = axis.weight.data() + static_cast<std::ptrdiff_t>(i) * axis.taps;
    const std::uint8_t* p = line + static_cast<std::ptrdiff_t>(axis.first[static_cast<std::size_t>(i)]) * 3;
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < axis.taps; j += 4, p += 12) {
      const __m256i pixels = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      const __m256i four = _mm256_broadcastq_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w + j)));
      const __m256i weights = _mm256_shuffle_epi8(four, weight_pairs);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, pixel_pairs), weights));
    }
    __m128i total = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    total = _mm_sra_epi32(_mm_add_epi32(total, half), shift);
    total = _mm_packs_epi32(total, total);
    const auto rgb = static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_packus_epi16(total, total)));
    std::memcpy(out, &rgb, 3);
    out += 3;
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
void resize_row_avx2(const ResizeAxis& axis, const std::uint8_t* line, std::uint8_t* out) {
  resize_row_plain(axis, line, out);
}
void resize_column_avx2(const ResizeAxis& axis, int y, const std::uint8_t* in, std::size_t row_bytes,
                        std::uint8_t* out) {
  resize_column_plain(axis, y, in, row_bytes, out);
}

#endif

}  // namespace detail

Resizer::Resizer(int height_in, int width_in, int height_out, int width_out)
    : rows_(height_in, height_out), columns_(width_in, width_out) {
  if (width_in != width_out) {
    line_.assign(static_cast<std::size_t>(width_in) * 3 + 16 + 3 * static_cast<std::size_t>(columns_.taps), 0);
  }
  if (height_in != height_out) {
    narrow_.resize(static_cast<std::size_t>(height_in) * static_cast<std::size_t>(width_out) * 3);
  }
}

void Resizer::apply(const std::uint8_t* in, std::ptrdiff_t stride_bytes, std::span<std::uint8_t> out) {
  const std::size_t out_row = static_cast<std::size_t>(columns_.size_out) * 3;
  check_eq(out.size(), static_cast<std::size_t>(rows_.size_out) * out_row, "bytes of the resized picture");
  const bool fast = detail::avx2_present();
  const bool tall = rows_.size_in != rows_.size_out;
  std::uint8_t* to = tall ? narrow_.data() : out.data();
  for (int y = 0; y < rows_.size_in; ++y, to += out_row) {
    const std::uint8_t* row = in + y * stride_bytes;
    if (line_.empty()) {
      std::memcpy(to, row, out_row);
      continue;
    }
    std::memcpy(line_.data(), row, static_cast<std::size_t>(columns_.size_in) * 3);
    (fast ? detail::resize_row_avx2 : detail::resize_row_plain)(columns_, line_.data(), to);
  }
  for (int y = 0; tall && y < rows_.size_out; ++y) {
    (fast ? detail::resize_column_avx2 : detail::resize_column_plain)(
        rows_, y, narrow_.data(), out_row, out.data() + static_cast<std::size_t>(y) * out_row);
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
