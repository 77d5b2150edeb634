// The figures of this machine and network that the cost model of ring attention decides by (ring_cost.h).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/compute.h"
#include "parallel/communicator.h"
#include "parallel/ring_cost.h"

namespace zoetrope {

// Measures, in some tens of milliseconds on a core of its own, what attention, a message and a byte take, and how much
// of a transfer passes under attention. Every member is told what ring rank 0 measured. Collective; nothing is measured
// on a ring of one (RingRates::known() is false).
RingRates measured_rates(Communicator& ring, const Compute& compute, const KvLayout& layout, int heads);

// `rates` with the messages of members that share a host, equal numbers in `hosts` [ring]: measured by all such members
// at once, each with a partner, and told by the first that has one. Collective. Not known where no two share one.
RingRates rates_within_hosts(Communicator& ring, const Compute& compute, const KvLayout& layout, int heads,
                             RingRates rates, std::span<const std::int32_t> hosts);

}  // namespace zoetrope
