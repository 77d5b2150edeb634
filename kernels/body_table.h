// The function table of one body. Ops (norm.cc, matmul.cc, ...) check shapes once, split the work over threads and call
// these; they compute and check nothing. Each family's entries are declared in its own header under bodies/.
#pragma once

#include "kernels/bodies/attention_body.h"
#include "kernels/bodies/matmul_body.h"
#include "kernels/bodies/row_body.h"

namespace zoetrope {

struct Body {
  const char* name = "";
  MatmulBody matmul;        // bodies/matmul_body.h
  AttentionBody attention;  // bodies/attention_body.h
  RowBody row;              // bodies/row_body.h: norms, rotary, activations, router, combine
};

}  // namespace zoetrope
