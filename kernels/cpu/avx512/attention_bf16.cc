#include "kernels/cpu/attention_dot.h"

namespace zoetrope {

const AttentionBody& attention_body_avx512bf16() {
  static const AttentionBody table = attention_table<DotProduct<12, 12>, SingleProduct<12, 12>>();
  return table;
}

}  // namespace zoetrope
