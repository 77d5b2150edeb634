#include "kernels/cpu/attention_visit.h"

namespace zoetrope {

// Twelve rows of two panels: 24 accumulators; the number of a row is a broadcast memory operand.
const AttentionBody& attention_body_avx512() {
  static const AttentionBody table = attention_table<WidenedProduct<12, 12>, SingleProduct<12, 12>>();
  return table;
}

}  // namespace zoetrope
