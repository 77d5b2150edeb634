// Ranks as threads of one process. A message is a pointer: the receiver copies from the sender's memory, the sender
// waits for that. Waiting ranks sleep on their condition variable, never spin.
#pragma once

#include <memory>
#include <vector>

#include "parallel/communicator.h"

namespace zoetrope {

// One communicator per rank; each is used by one thread (abort() by any).
std::vector<std::unique_ptr<Communicator>> thread_communicators(int ranks);

}  // namespace zoetrope
