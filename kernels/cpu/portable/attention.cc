#include "kernels/cpu/attention_visit.h"

namespace zoetrope {

const AttentionBody& attention_body_portable() {
  static const AttentionBody table = attention_table<WidenedProduct<4, 0>, SingleProduct<4, 0>>();
  return table;
}

}  // namespace zoetrope
