// Entries of the attention family in the table of one body. Same bits from every body.
#pragma once

namespace zoetrope {

struct AttentionBody {};

}  // namespace zoetrope
