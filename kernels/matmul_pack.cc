// Weights from the layout of a checkpoint into panels of 32 outputs.
#include <fmt/format.h>

#include <cstring>

#include "kernels/bodies/matmul_body.h"
#include "kernels/matmul.h"
#include "monitoring/check.h"
#include "monitoring/error.h"

namespace zoetrope {
namespace {

constexpr int kHalf = kPanelColumns / 2;

std::int64_t checked_product(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  check(!__builtin_mul_overflow(a, b, &product), "a packed matrix larger than 2^63 bytes");
  return product;
}

std::size_t element_bytes(WeightType type) { return type == WeightType::kBf16 ? 2 : 1; }

void check_shape(PanelOrder order, std::int64_t n, std::int64_t k, int slices) {
  check(n > 0 && k > 0, "a packed matrix without elements");
  check(slices >= 1 && slices <= kSlicesMax && (slices & (slices - 1)) == 0, "slices are a power of two of at most 8");
  check_eq(k % slices, 0, "inputs divided by slices leave a rest");
  check(order == PanelOrder::kPlain || n % 2 == 0, "a gated matrix with an odd number of outputs");
}

// Sixteen neighbouring outputs of one stored matrix: half a panel.
struct Half {
  const StoredMatrix* stored;
  std::int64_t first;  // output of `stored`
  int outputs;         // 0 .. 16, the rest of the half is padding
};

template <typename T>
constexpr int element_at(int column, int odd) {
  return sizeof(T) == 1 ? fp8_byte(column, odd) : 2 * column + odd;
}

// One half panel of one slice: words[pair][column 0..15][2], rows of the panel being 2 * kPanelColumns elements apart.
template <typename T>
void pack_half(const Half& half, std::int64_t first_input, std::int64_t inputs, T* out) {
  const StoredMatrix& stored = *half.stored;
  const T* source = reinterpret_cast<const T*>(stored.data) + first_input * stored.input_stride +
                    half.first * stored.output_stride;
  for (std::int64_t k = 0; k < inputs; k += 2) {
    T* row = out + k * kPanelColumns;
    const T* even = source + k * stored.input_stride;
    const bool paired = k + 1 < inputs;
    for (int c = 0; c < kHalf; ++c) {
      const bool exists = c < half.outputs;
      row[element_at<T>(c, 0)] = exists ? even[c * stored.output_stride] : T{0};
      row[element_at<T>(c, 1)] = exists && paired ? even[c * stored.output_stride + stored.input_stride] : T{0};
    }
  }
}

// The scale of every block of k that this half meets in one slice.
void pack_half_scales(const Half& half, std::int64_t first_input, std::int64_t inputs, float* out) {
  const StoredMatrix& stored = *half.stored;
  const std::int64_t first_output = stored.output_origin + half.first;
  const std::int64_t row = first_output / kScaleBlock;
  if (half.outputs > 0 && (first_output + half.outputs - 1) / kScaleBlock != row) {
    refuse(Radius::kStartup,
           {"FP8 weights", fmt::format("outputs {} to {} of one matrix in one half panel", first_output,
                                       first_output + half.outputs - 1),
            fmt::format("half panels of {} outputs that share a block of {}", kHalf, kScaleBlock),
            "use fewer tensor-parallel ranks, so that a shard begins at a multiple of 16 outputs"});
  }
  const std::int64_t begin = stored.input_origin + first_input;
  const std::int64_t first_block = begin / kScaleBlock;
  const std::int64_t last_block = (begin + inputs - 1) / kScaleBlock;
  if (last_block > first_block && begin % 2 != 0) {
    refuse(Radius::kStartup, {"FP8 weights", fmt::format("a slice that begins at input {}", begin), "an even input",
                              "use fewer tensor-parallel ranks"});
  }
  for (std::int64_t block = first_block; block <= last_block; ++block) {
    out[2 * (block - first_block)] =
        half.outputs > 0 ? stored.scales[row * stored.scale_output_stride + block * stored.scale_input_stride] : 0.0f;
  }
}

struct Layout {
  PanelOrder order;
  std::int64_t n, k;
  int slices;

  std::int64_t slice_inputs() const { return k / slices; }
  std::int64_t panels() const { return div_ceil<std::int64_t>(n, kPanelColumns); }
  std::int64_t panel_elements() const { return padded_inputs(k, slices) / slices * kPanelColumns; }
};

// Half h (0 or 1) of panel p, where gated panels take their second half from `up`.
Half half_of(const Layout& layout, const StoredMatrix& first, const StoredMatrix& up, std::int64_t panel, int h) {
  const bool gated = layout.order == PanelOrder::kGated;
  const std::int64_t limit = gated ? layout.n / 2 : layout.n;
  const std::int64_t output = gated ? panel * kHalf : panel * kPanelColumns + h * kHalf;
  const std::int64_t exist = limit - output;
  const int outputs = static_cast<int>(exist < 0 ? 0 : exist > kHalf ? kHalf : exist);
  // A half that is all padding points at output 0, which is never read.
  return {gated && h == 1 ? &up : &first, outputs > 0 ? output : 0, outputs};
}

template <typename T>
void pack_all(const Layout& layout, const StoredMatrix& first, const StoredMatrix& up, std::byte* data, float* scales) {
  const std::int64_t blocks = scale_blocks(layout.slice_inputs());
  T* out = reinterpret_cast<T*>(data);
  if (scales != nullptr) {
    std::memset(scales, 0, packed_scales(first.type, layout.n, layout.k, layout.slices) * sizeof(float));
  }
  for (int slice = 0; slice < layout.slices; ++slice) {
    const std::int64_t first_input = slice * layout.slice_inputs();
    for (std::int64_t panel = 0; panel < layout.panels(); ++panel) {
      for (int h = 0; h < 2; ++h) {
        const Half half = half_of(layout, first, up, panel, h);
        pack_half(half, first_input, layout.slice_inputs(), out + 2 * kHalf * h);
        if (scales != nullptr) {
          pack_half_scales(half, first_input, layout.slice_inputs(),
                           scales + (slice * layout.panels() + panel) * blocks * 2 + h);
        }
      }
      out += layout.panel_elements();
    }
  }
}

PackedMatrix pack_pair(const StoredMatrix& first, const StoredMatrix& up, const Layout& layout, std::byte* data,
                       float* scales) {
  check_shape(layout.order, layout.n, layout.k, layout.slices);
  check(first.type == up.type, "gate and up of different types");
  check_eq(first.input_origin, up.input_origin, "gate and up begin at different inputs");
  check(data != nullptr && reinterpret_cast<std::uintptr_t>(data) % 64 == 0, "packed weights at a 64-byte boundary");
  const bool fp8 = first.type == WeightType::kF8E4M3;
  check(!fp8 || (scales != nullptr && first.scales != nullptr && up.scales != nullptr), "FP8 weights without scales");
  if (fp8) {
    pack_all<std::uint8_t>(layout, first, up, data, scales);
  } else {
    pack_all<Bf16>(layout, first, up, data, nullptr);
  }
  return {first.type, layout.order,           layout.n,          layout.k, layout.slices,
          data,       fp8 ? scales : nullptr, first.input_origin};
}

}  // namespace

std::int64_t scale_blocks(std::int64_t slice_inputs) { return (slice_inputs + kScaleBlock - 2) / kScaleBlock + 1; }

std::size_t packed_bytes(WeightType type, PanelOrder order, std::int64_t n, std::int64_t k, int slices) {
  check_shape(order, n, k, slices);
  const std::int64_t columns = round_up<std::int64_t>(n, kPanelColumns);
  const std::int64_t elements = checked_product(columns, padded_inputs(k, slices));
  return static_cast<std::size_t>(checked_product(elements, static_cast<std::int64_t>(element_bytes(type))));
}

std::size_t packed_scales(WeightType type, std::int64_t n, std::int64_t k, int slices) {
  check_shape(PanelOrder::kPlain, n, k, slices);
  if (type == WeightType::kBf16) {
    return 0;
  }
  const std::int64_t panels = div_ceil<std::int64_t>(n, kPanelColumns);
  return static_cast<std::size_t>(checked_product(checked_product(slices * scale_blocks(k / slices), panels), 2));
}

PackedMatrix pack(const StoredMatrix& stored, PanelOrder order, std::int64_t n, std::int64_t k, int slices,
                  std::int64_t up_offset, std::byte* data, float* scales) {
  StoredMatrix up = stored;
  if (order == PanelOrder::kGated) {
    up.data += up_offset * stored.output_stride * static_cast<std::int64_t>(element_bytes(stored.type));
    up.output_origin += up_offset;
  }
  return pack_pair(stored, up, {order, n, k, slices}, data, scales);
}

PackedMatrix pack_gated(const StoredMatrix& gate, const StoredMatrix& up, std::int64_t n, std::int64_t k,
                        std::byte* data, float* scales) {
  return pack_pair(gate, up, {PanelOrder::kGated, n, k, /*slices=*/1}, data, scales);
}

}  // namespace zoetrope
