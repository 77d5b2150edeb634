// The name of this host, for messages and for Ranks.
#pragma once

#include <string>

namespace zoetrope {

std::string host_name();

}  // namespace zoetrope
