// The communicator of a rank that is alone.
#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace zoetrope {

std::unique_ptr<Communicator> self_communicator();

}  // namespace zoetrope
