// Inside of the MPI backend that its tests reach; programs use MpiJob (parallel/ranks.h).
#pragma once

#include <cstddef>

namespace zoetrope {

// Parts larger than this travel as several messages (MPI counts with an int). 1 GiB; every rank must agree.
void set_mpi_message_bytes_max(std::size_t bytes);

}  // namespace zoetrope
