// The hand-over between stages, for any layout: the tests of threads and of MPI run the same suite.
#pragma once

#include "parallel/ranks.h"

namespace zoetrope {

// Waves of many sizes, empty ones among them, over several steps: every stage finds what the stages before made of
// them. `shared`: through memory that the ranks of a host see together; else as messages.
void check_hand_over(Ranks& ranks, bool shared);

// A stage gives waves away while the next one does not listen.
void check_that_nobody_waits_for_a_listener(Ranks& ranks, bool shared);

}  // namespace zoetrope
