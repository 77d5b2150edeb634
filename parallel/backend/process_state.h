// What another process of this host does: whether it was stopped (SIGSTOP: it lives, keeps its memory and its sockets,
// and never answers; neither MPI nor its launcher notices), whether it is gone, and who started whom.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace zoetrope {

// A process and when it was started, so that a number that was given away again is not mistaken. pid 0: unknown.
struct ProcessId {
  std::int32_t pid = 0;
  std::uint32_t started = 0;  // clock ticks since the host was started, low bits
};

ProcessId own_process();
ProcessId process_of(std::int32_t pid);  // that has this number now; unknown when /proc does not show its state

// True when the process is there and stopped by a signal. False for unknown ones and those of another process
// namespace.
bool is_stopped(const ProcessId& process);

// True when the process has ended, also when nobody has waited for it yet. False for unknown ones, and while its state
// cannot be read for another reason (no descriptor or no memory is left, no permission).
bool is_gone(const ProcessId& process);

// True when no process that lives has this number, this one or another that got it later. False when nobody can tell.
bool is_free(std::int32_t pid);

std::string name_of(const ProcessId& process);  // as ps shows it; empty when the process is gone or unknown

// A descriptor that stands for a process whatever becomes of its number, for wait_status_of() and send_signal(); -1
// where the kernel has none.
int descriptor_of(const ProcessId& process);

// To this process, never to another that has its number now; nothing when it is gone or unknown.
void send_signal(const ProcessId& process, int descriptor, int signal);

// How a process ended, as waitpid() would tell its parent. Nothing when it has not ended, or when its parent has waited
// for it and the kernel forgets that: those before 6.15 do.
std::optional<int> wait_status_of(const ProcessId& process, int descriptor = -1);

// The process that launched this one as a rank: the nearest ancestor with the name of a launcher (mpirun, orted,
// slurmstepd ...), beyond a shell script for instance; else the parent. Unknown when /proc shows neither (hidepid, or a
// parent in another process namespace).
ProcessId launcher_of_this_process();

}  // namespace zoetrope
