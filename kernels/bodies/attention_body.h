// Entries of the attention family in the table of one body. Same bits from every body.
#pragma once

namespace zoetrope {

struct AttentionBody {};

const AttentionBody& attention_body_reference();
const AttentionBody& attention_body_portable();
const AttentionBody& attention_body_avx2();
const AttentionBody& attention_body_avx512();
const AttentionBody& attention_body_avx512bf16();

}  // namespace zoetrope
