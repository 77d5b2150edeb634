#include "kernels/cpu/attention_visit.h"

namespace zoetrope {

const AttentionBody& attention_body_portable() {
  static const AttentionBody table = attention_table<WidenedProduct<4, 4>, SingleProduct<4, 4>>();
  return table;
}

}  // namespace zoetrope
