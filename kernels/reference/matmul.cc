// The readable specification of a matrix product (docs/one-answer.md rules 1, 2, 7): one element at a time.
#include <cmath>

#include "kernels/bodies/matmul_body.h"
#include "kernels/cpu/fp8.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/tensor.h"

namespace zoetrope {
namespace {

// One output of one panel job, in one slice. Packed weights are [k pair][32][2].
struct Column {
  const PanelJob& job;
  int slice;
  int column;  // 0 .. 31

  std::int64_t origin() const { return job.input_origin + slice * job.slice_inputs; }
  float scale(std::int64_t k) const {
    const std::int64_t block = (origin() + k) / kScaleBlock - origin() / kScaleBlock;
    return job.scales[slice * job.scales_stride + 2 * block + column / 16];
  }
  // The stored weight of input k, widened; an input beyond the slice's last is the padding of an odd slice.
  float stored(std::int64_t k) const {
    const std::byte* slice_data = job.weights + slice * job.weights_stride;
    const std::int64_t pair = k / 2 * kPanelColumns * 2;
    const int odd = static_cast<int>(k % 2);
    return job.fp8 ? from_bf16(kE4m3Table.bf16[std::to_integer<std::uint8_t>(slice_data[pair + fp8_byte(column, odd)])])
                   : from_bf16(reinterpret_cast<const Bf16*>(slice_data)[pair + 2 * column + odd]);
  }
};

// fp32 mode: k one by one upwards.
float dot_ascending(const Column& w, const float* x, std::int64_t padded) {
  float sum = 0.0f;
  for (std::int64_t k = 0; k < padded; ++k) {
    const float weight = w.job.fp8 ? w.stored(k) * w.scale(k < w.job.slice_inputs ? k : k - 1) : w.stored(k);
    sum = std::fma(x[k], weight, sum);
  }
  return sum;
}

// bf16 mode: pairs, the odd element first. FP8: one sum per block of 128 inputs, then sum = fma(block, scale, sum).
float dot_pairs(const Column& w, const float* x, std::int64_t padded) {
  float sum = 0.0f;
  float block = 0.0f;
  for (std::int64_t k = 0; k < padded; k += 2) {
    block = std::fma(x[k + 1], w.stored(k + 1), block);
    block = std::fma(x[k], w.stored(k), block);
    const bool last = k + 2 == padded;
    if (w.job.fp8 && (last || (w.origin() + k + 2) % kScaleBlock == 0)) {
      sum = std::fma(block, w.scale(k), sum);
      block = 0.0f;
    }
  }
  return w.job.fp8 ? sum : block;
}

// Slices [first, first + count) of one element: halves meet as fp32.
float slices_sum(const PanelJob& job, const float* x, int column, int first, int count) {
  if (count > 1) {
    return slices_sum(job, x, column, first, count / 2) + slices_sum(job, x, column, first + count / 2, count / 2);
  }
  const std::int64_t padded = (job.slice_inputs + 1) / 2 * 2;
  const Column w{job, first, column};
  return job.rounds ? dot_pairs(w, x + first * padded, padded) : dot_ascending(w, x + first * padded, padded);
}

float silu_of(float value) {
  float lanes[16];
  store(lanes, silu(broadcast(value)));
  return lanes[0];
}

void one_panel(const PanelJob& job) {
  const std::int64_t row_inputs = padded_inputs(job.slice_inputs * job.slices, job.slices);
  for (int row = 0; row < job.rows; ++row) {
    const float* x = reinterpret_cast<const float*>(job.x) + row * row_inputs;
    float* out = job.out + row * job.out_stride;
    for (int column = 0; column < job.columns; ++column) {
      const float sum = slices_sum(job, x, column, 0, job.slices);
      if (job.gated) {
        const float up = slices_sum(job, x, column + kPanelColumns / 2, 0, job.slices);
        out[column] = silu_of(sum) * up;
      } else {
        const float biased = job.bias != nullptr ? sum + job.bias[column] : sum;
        out[column] = job.round_output ? round_bf16(biased) : biased;
      }
    }
  }
}

void panel(const PanelJob& job) {
  const std::int64_t width = job.gated ? kPanelColumns / 2 : kPanelColumns;
  const std::int64_t panel_bytes = (job.slice_inputs + 1) / 2 * 2 * kPanelColumns * (job.fp8 ? 1 : 2);
  for (int p = 0; p < job.panels; ++p) {
    PanelJob one = job;
    one.panels = 1;
    one.columns = p + 1 < job.panels ? static_cast<int>(width) : job.columns;
    one.weights += p * panel_bytes;
    one.scales = job.scales != nullptr ? job.scales + p * job.scales_panel_stride : nullptr;
    one.bias = job.bias != nullptr ? job.bias + p * width : nullptr;
    one.out += p * width;
    one_panel(one);
  }
}

void pack_tile(const PackTileJob& job) {
  float* out = reinterpret_cast<float*>(job.out);
  const std::int64_t inputs = job.k / job.slices;
  const float* x = job.x + (job.row_index != nullptr ? job.row_index[0] : 0) * job.stride;
  for (std::int64_t k = 0; k < job.k; ++k) {
    *out++ = job.rounds ? round_bf16(x[k]) : x[k];
    if (inputs % 2 != 0 && (k + 1) % inputs == 0) {
      *out++ = 0.0f;
    }
  }
}

// One chain of additions, as the products above.
double multiply_in_registers(std::int64_t rounds, bool) {
  volatile float factor = 0.5f;
  float sum = 0.0f;
  for (std::int64_t round = 0; round < rounds; ++round) {
    sum = std::fma(factor, factor, sum);
  }
  factor = sum;
  return static_cast<double>(rounds) * 2;
}

std::uint32_t read_memory(const std::byte* memory, std::int64_t bytes, int) {
  std::uint32_t digest = 0;
  for (std::int64_t at = 0; at < bytes; at += sizeof digest) {
    digest ^= *reinterpret_cast<const std::uint32_t*>(memory + at);
  }
  return digest;
}

}  // namespace

const MatmulBody& matmul_body_reference() {
  static constexpr MatmulBody kBody{/*tile_rows=*/1, /*packs_pairs=*/false, pack_tile, panel,
                                    multiply_in_registers, read_memory};
  return kBody;
}

}  // namespace zoetrope
