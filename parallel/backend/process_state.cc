#include "parallel/backend/process_state.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace zoetrope {
namespace {

struct Stat {
  char state = 0;  // 0: no such process
  std::uint32_t started = 0;
};

// /proc/PID/stat: "pid (name) state ...", the start time is field 22. The name may hold anything, ')' too.
Stat stat_of(std::int32_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text, '\0');
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return {};
  }
  std::istringstream fields(text.substr(name_end + 1));
  std::string word;
  Stat stat;
  fields >> stat.state;
  for (int field = 4; field < 22; ++field) {
    fields >> word;
  }
  std::uint64_t started = 0;
  fields >> started;
  stat.started = static_cast<std::uint32_t>(started);
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

}  // namespace zoetrope
