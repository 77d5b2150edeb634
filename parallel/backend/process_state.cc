#include "parallel/backend/process_state.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <span>
#include <sstream>
#include <string>
#include <string_view>

namespace zoetrope {
namespace {

struct Stat {
  char state = 0;     // 0: not read
  bool none = false;  // there is no such process; otherwise its state could not be read
  std::int32_t parent = 0;
  std::uint32_t started = 0;
  int wait_status = 0;  // of a process that is ending or has ended
  std::string name;
};

constexpr std::array<std::string_view, 8> kLaunchers{"mpirun",  "orterun", "mpiexec",    "orted",
                                                     "prterun", "prted",   "slurmstepd", "hydra_pmi_proxy"};

// What the kernel tells of a process descriptor (struct pidfd_info, PIDFD_GET_INFO), newer than the headers we build
// with.
struct DescribedProcess {
  std::uint64_t mask = 0, group = 0;
  std::array<std::uint32_t, 11> ids{};
  std::int32_t wait_status = 0;
};
static_assert(sizeof(DescribedProcess) == 64);
constexpr std::uint64_t kMaskEnd = 8;  // PIDFD_INFO_EXIT

// Negative: minus the error.
ssize_t read_some(int file, std::span<char> into) {
  ssize_t count = -1;
  do {
    count = ::read(file, into.data(), into.size());
  } while (count < 0 && errno == EINTR);
  return count < 0 ? -errno : count;
}

// /proc/PID/stat: "pid (name) state ...", the start time is field 22, the last one how it ended. The name may hold
// anything, ')' too.
Stat stat_of(std::int32_t pid) {
  const int file = ::open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC);
  std::array<char, 2048> buffer{};  // a line is a few hundred bytes
  const ssize_t count = file < 0 ? -errno : read_some(file, buffer);
  if (file >= 0) {
    ::close(file);
  }
  if (count <= 0) {
    Stat stat;
    stat.none = count == -ENOENT || count == -ESRCH;
    return stat;
  }
  const std::string text(buffer.data(), static_cast<std::size_t>(count));
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

bool ended(const Stat& stat) { return stat.none || stat.state == 'Z' || stat.state == 'X'; }

}  // namespace

ProcessId process_of(std::int32_t pid) {
  const Stat stat = stat_of(pid);
  return stat.state == 0 ? ProcessId{} : ProcessId{pid, stat.started};
}

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
  return ended(stat) || (stat.state != 0 && stat.started != process.started);
}

bool is_free(std::int32_t pid) { return ended(stat_of(pid)); }

std::string name_of(const ProcessId& process) {
  const Stat stat = process.pid <= 0 ? Stat{} : stat_of(process.pid);
  return stat.started == process.started ? stat.name : "";
}

int descriptor_of(const ProcessId& process) {
  const int descriptor = process.pid <= 0 ? -1 : static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0));
  if (descriptor >= 0 && process_of(process.pid).started != process.started) {  // somebody else's by then
    ::close(descriptor);
    return -1;
  }
  return descriptor;
}

void send_signal(const ProcessId& process, int descriptor, int signal) {
  if (descriptor >= 0 && ::syscall(SYS_pidfd_send_signal, descriptor, signal, nullptr, 0) == 0) {
    return;
  }
  if (process.pid > 0 && !is_gone(process)) {
    ::kill(process.pid, signal);
  }
}

std::optional<int> wait_status_of(const ProcessId& process, int descriptor) {
  const Stat stat = process.pid <= 0 ? Stat{} : stat_of(process.pid);
  if (stat.state != 0 && stat.started == process.started) {
    // While it is ending the number is there already; 0, an end without a failure, is sure only afterwards.
    return ended(stat) || stat.wait_status != 0 ? std::optional(stat.wait_status) : std::nullopt;
  }
  DescribedProcess told{.mask = kMaskEnd};
  if (descriptor < 0 || ::ioctl(descriptor, _IOWR(0xff, 11, DescribedProcess), &told) != 0 ||
      (told.mask & kMaskEnd) == 0) {
    return std::nullopt;
  }
  return told.wait_status;
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
