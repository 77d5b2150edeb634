// Entries of the matmul family in the table of one body. Same bits from every body.
#pragma once

namespace zoetrope {

struct MatmulBody {};

const MatmulBody& matmul_body_reference();
const MatmulBody& matmul_body_portable();
const MatmulBody& matmul_body_avx2();
const MatmulBody& matmul_body_avx512();
const MatmulBody& matmul_body_avx512bf16();

}  // namespace zoetrope
