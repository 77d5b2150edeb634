#include "runtime/engine/host_room.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <string_view>

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kUnlimited = std::int64_t{1} << 60;  // version 1 writes "no limit" as a number near 2^63
constexpr std::int64_t kUnknown = std::int64_t{1} << 30;    // without /proc/meminfo

std::optional<std::int64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  std::int64_t number = 0;
  return in >> number ? std::optional(number) : std::nullopt;  // "max" is none
}

// The number behind a name in a file of lines "name number ...".
std::optional<std::int64_t> field_of(const fs::path& file, std::string_view name) {
  std::ifstream in(file);
  std::string key, rest;
  std::int64_t number = 0;
  for (; in >> key >> number; std::getline(in, rest)) {
    if (key == name) {
      return number;
    }
  }
  return std::nullopt;
}

// The names of the files differ between the two versions of control groups.
struct Names {
  const char *limit, *usage, *cache;
};
constexpr Names kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr Names kVersion2{"memory.max", "memory.current", "inactive_file"};

// The group and all above it limit this process. Cached files count as used and are given back when memory is asked
// for.
void narrow(HostRoom& room, const fs::path& base, const fs::path& group, const Names& names) {
  for (fs::path folder = group.relative_path();; folder = folder.parent_path()) {
    const fs::path at = base / folder;
    const auto limit = number_in(at / names.limit);
    if (limit && *limit < kUnlimited) {
      const std::int64_t used =
          number_in(at / names.usage).value_or(0) - field_of(at / "memory.stat", names.cache).value_or(0);
      const std::int64_t left = std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, used));
      if (left < room.free_bytes) {
        room = {left, (at / names.limit).string()};
      }
    }
    if (folder.empty()) {
      return;
    }
  }
}

}  // namespace

HostRoom host_room(const fs::path& root) {
  const auto kib = field_of(root / "proc/meminfo", "MemAvailable:");
  HostRoom room{kib ? *kib * 1024 : kUnknown, "MemAvailable"};
  std::ifstream groups(root / "proc/self/cgroup");  // number:controllers:group
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const fs::path group(line.substr(second + 1));
    if (controllers.find(",memory,") != std::string::npos) {
      narrow(room, root / "sys/fs/cgroup/memory", group, kVersion1);
    } else if (controllers == ",,") {
      narrow(room, root / "sys/fs/cgroup", group, kVersion2);
      narrow(room, root / "sys/fs/cgroup/unified", group, kVersion2);
    }
  }
  return room;
}

}  // namespace zoetrope
