#include "parallel/backend/process_state.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

namespace zoetrope {
namespace {

struct Stat {
  char state = 0;  // 0: no such process
  std::int32_t parent = 0;
  std::uint32_t started = 0;
  int wait_status = 0;  // of a process that is ending or has ended
  std::string name;
};

constexpr std::array<std::string_view, 8> kLaunchers{"mpirun",  "orterun", "mpiexec",    "orted",
                                                     "prterun", "prted",   "slurmstepd", "hydra_pmi_proxy"};

// /proc/PID/stat: "pid (name) state ...", the start time is field 22, the last one how it ended. The name may hold
// anything, ')' too.
Stat stat_of(std::int32_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text, '\0');
  const std::size_t name = text.find('('), name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return {};
  }
  std::istringstream fields(text.substr(name_end + 1));
  std::string word;
  Stat stat;
  fields >> stat.state >> stat.parent;
  stat.name = text.substr(name + 1, name_end - name - 1);
  for (int field = 5; field < 22; ++field) {
    fields >> word;
  }
  std::uint64_t started = 0;
  fields >> started;
  stat.started = static_cast<std::uint32_t>(started);
  for (int field = 23; field < 52; ++field) {
    fields >> word;
  }
  fields >> stat.wait_status;
  return fields ? stat : Stat{};
}

}  // namespace

ProcessId process_of(std::int32_t pid) { return {pid, stat_of(pid).started}; }

ProcessId own_process() { return process_of(static_cast<std::int32_t>(::getpid())); }

bool is_stopped(const ProcessId& process) {
  if (process.pid <= 0) {
    return false;
  }
  const Stat stat = stat_of(process.pid);
  return stat.state == 'T' && stat.started == process.started;
}

bool is_gone(const ProcessId& process) {
  if (process.pid <= 0) {
    return false;
  }
  const Stat stat = stat_of(process.pid);
  return stat.state == 0 || stat.state == 'Z' || stat.state == 'X' || stat.started != process.started;
}

std::optional<int> wait_status_of(const ProcessId& process) {
  const Stat stat = process.pid <= 0 ? Stat{} : stat_of(process.pid);
  const bool ended = stat.started == process.started && (stat.state == 'Z' || stat.state == 'X');
  // While it is ending the number is there already; 0, an end without a failure, is sure only afterwards.
  return stat.state != 0 && stat.started == process.started && (ended || stat.wait_status != 0)
             ? std::optional(stat.wait_status)
             : std::nullopt;
}

ProcessId launcher_of_this_process() {
  const auto parent = static_cast<std::int32_t>(::getppid());
  for (std::int32_t pid = parent; pid > 1;) {
    const Stat stat = stat_of(pid);
    if (std::ranges::find(kLaunchers, std::string_view(stat.name)) != kLaunchers.end()) {
      return {pid, stat.started};
    }
    pid = stat.parent;
  }
  return process_of(parent);
}

}  // namespace zoetrope
