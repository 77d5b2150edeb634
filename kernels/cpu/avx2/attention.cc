#include "kernels/cpu/attention_visit.h"

namespace zoetrope {

// Six rows of two registers: twelve accumulators, two panels' halves, one number and the mask of the odd elements.
const AttentionBody& attention_body_avx2() {
  static const AttentionBody table = attention_table<WidenedProduct<6, 6>, SingleProduct<6, 6>>();
  return table;
}

}  // namespace zoetrope
