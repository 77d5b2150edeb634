// The collectives against serial references, for any communicator: the tests of threads and of MPI run the same suite.
#pragma once

#include <cstdint>

#include "parallel/communicator.h"

namespace zoetrope {

// A value that rank `rank` holds; exponents differ widely, so that a sum tells its order of additions.
float held_by(int rank, std::int64_t row, std::int64_t column);

void check_messages(Communicator& comm);  // barrier, broadcast, gather, all_gather, all_equal
void check_gathered_rows(Communicator& comm);
void check_tree_sums(Communicator& comm);  // size() is a power of two
void check_split(Communicator& comm);
void check_order_of_parts(Communicator& comm);  // several parts from each peer, who come when they come
// Exchanges posted one after the other and waited for in another order, asked after between; of many sizes.
void check_posted_exchanges(Communicator& comm);

void check_long_exchange(Communicator& comm, std::size_t bytes);  // everybody to everybody at once, two parts each

}  // namespace zoetrope
