// Ring attention against one member alone, bit for bit, and its bytes against the closed forms.
#pragma once

#include "parallel/communicator.h"
#include "parallel/ring_memory.h"

namespace zoetrope {

// Every span that the ring has room for, both ways to pass, both precisions, awkward lengths and chunks. Shared: all
// ranks are of one host.
void check_ring_attention(Communicator& ring, RingTransport transport);

// Decoding: bytes of a token do not depend on the context's length.
void check_that_decode_traffic_is_flat(Communicator& ring);

}  // namespace zoetrope
