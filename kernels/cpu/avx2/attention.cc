#include "kernels/cpu/attention_visit.h"

namespace zoetrope {

// Sixteen registers: six rows of one panel are twelve sums, the panel's two halves, a row's number and the mask of the
// odd elements. Two panels at once, where rows are too few to hide the latency of a sum, go with two rows.
const AttentionBody& attention_body_avx2() {
  static const AttentionBody table = attention_table<WidenedProduct<6, 2>, SingleProduct<6, 2>>();
  return table;
}

}  // namespace zoetrope
