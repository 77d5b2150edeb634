// Memory of the ranks of a host: the same bytes at all of them.
#pragma once

#include "parallel/communicator.h"
#include "parallel/host_memory.h"

namespace zoetrope {

void check_host_memory(HostMemory& memory);

}  // namespace zoetrope
