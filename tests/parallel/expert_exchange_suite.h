// The expert exchange against a serial reference that sees every rank's tokens, and its bytes against the closed form.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/expert_exchange.h"

namespace zoetrope {

// Bytes sent so far to each rank of the communicator, measured from outside; empty where only Traffic can tell.
using SentByPeer = std::function<std::vector<std::uint64_t>()>;

void check_expert_exchange(Communicator& comm, const SentByPeer& sent = {});

// At H = 128, where headers weigh most: at most 1.05 times the least that rule 3 allows, on uniform, Zipf and
// all-to-one routings.
void check_expert_exchange_bytes(Communicator& comm);

// What a test of bytes says: exactly the closed form, not a byte more or less.
bool is_dispatch_of(const ExpertExchange::ClosedForm& form, std::uint64_t bytes_sent);

// A wrong dispatch: every token to every rank. Returns the bytes that it sent.
std::uint64_t all_gather_posing_as_dispatch(Communicator& comm, Rows<const float> x, Precision precision);

// With tokens that stay at home or go to one rank, the check above accepts the exchange and refuses the all-gather.
void check_that_the_mutant_is_caught(Communicator& comm);

}  // namespace zoetrope
