// Buffers of one model, allocated once and grown to the largest step seen. Shapes are those of one step; a rank of a tp
// group holds the residual rows that are dealt to it and whole rows of what its heads and columns work on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/large_memory.h"
#include "kernels/tensor.h"
#include "monitoring/check.h"

namespace zoetrope {

// Columns [first, first + count) of rows; of no rows, the same nothing.
template <typename T>
Rows<T> columns_of(Rows<T> rows, std::int64_t first, std::int64_t count) {
  return {rows.data == nullptr ? nullptr : rows.data + first, rows.rows, count, rows.stride};
}

// Memory for rows whose number changes from step to step, in huge pages where they fill some: products write rows that
// lie thousands of bytes apart. What was in it is lost when it is shaped anew.
template <typename T>
class GrowingRows {
 public:
  Rows<T> shaped(std::int64_t rows, std::int64_t columns) {
    check(rows >= 0 && columns >= 0, "rows and columns are counts");
    const std::int64_t wanted = rows * columns;
    if (wanted > elements_) {
      memory_.reset();
      elements_ = 0;
      memory_ = large_memory(static_cast<std::size_t>(wanted) * sizeof(T));
      elements_ = wanted;
    }
    return {reinterpret_cast<T*>(memory_.get()), rows, columns};
  }

 private:
  static_assert(std::is_trivial_v<T>);
  LargeMemory memory_;
  std::int64_t elements_ = 0;
};

// T rows of the step, t rows of them dealt to this rank; the residual rows lie in the HandOver of the pipeline.
struct TextActivations {
  GrowingRows<float> normed;          // [T, H] normalised rows; a rank fills its own, then all are gathered
  GrowingRows<float> cos, sin;        // [T, D/2] rotary table of the step, shared by all layers
  GrowingRows<float> qkv;             // [T, q | k | v of own heads]
  GrowingRows<float> attended;        // [T, own heads * D]
  GrowingRows<float> partial;         // [T, H] fp32 partial products of own canonical slices
  GrowingRows<float> gated;           // [T, I / tp] dense, or [rows of own experts, I]
  GrowingRows<float> logits;          // router [t, E]
  GrowingRows<std::int32_t> experts;  // [t, k]
  GrowingRows<float> weights;         // [t, k] of the chosen experts
  GrowingRows<std::int32_t> shards;   // [t, k * shards] of the chosen experts, where experts are cut
  GrowingRows<std::int32_t> slots;    // [t, k] where their sums lie
  GrowingRows<float> combined;        // [t, H]
  GrowingRows<float> last;            // [logit rows, H]
  GrowingRows<float> head;            // [logit rows, own vocabulary], then the other ranks' parts
};

// P patches of a batch.
struct VisionActivations {
  GrowingRows<float> h;          // [P, D] residual stream
  GrowingRows<float> normed;     // [P, D]
  GrowingRows<float> positions;  // [gh * gw, D] of one frame
  GrowingRows<float> cos, sin;   // [P, d/2]
  GrowingRows<float> qkv;        // [P, 3D]
  GrowingRows<float> attended;   // [P, D]
  GrowingRows<float> hidden;     // [rows of a tile, Mi or 4D]
  GrowingRows<float> product;    // [P, D]
};

}  // namespace zoetrope
