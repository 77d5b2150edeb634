// Memory that can be had on this host without swapping: what the kernel counts as available, or what the limits of this
// process's control groups leave, whichever is less.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace zoetrope {

struct HostRoom {
  std::int64_t free_bytes = 0;
  std::string bound_by;  // "MemAvailable", or the limit's file
};

// `root`: where /proc and /sys are, for tests.
HostRoom host_room(const std::filesystem::path& root = "/");

}  // namespace zoetrope
