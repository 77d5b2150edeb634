#include "parallel/backend/process_state.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <optional>

namespace zoetrope {
namespace {

TEST(ProcessState, TellsAStoppedProcessFromOneThatRunsOrIsGone) {
  const ProcessId self = own_process();
  EXPECT_EQ(self.pid, ::getpid());
  EXPECT_FALSE(is_stopped(self));
  EXPECT_FALSE(is_stopped({}));
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const ProcessId own = own_process();
    if (::write(ends[1], &own, sizeof(own)) != sizeof(own)) {
      ::_exit(1);
    }
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  ProcessId other;
  ASSERT_EQ(::read(ends[0], &other, sizeof(other)), static_cast<ssize_t>(sizeof(other)));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_TRUE(is_stopped(other));
  EXPECT_FALSE(is_stopped({other.pid, other.started + 1}));  // another process that has its number now
  EXPECT_FALSE(is_gone(other));
  EXPECT_FALSE(is_gone(self));
  EXPECT_FALSE(is_gone({}));
  EXPECT_TRUE(is_gone({other.pid, other.started + 1}));
  ::kill(child, SIGKILL);
  siginfo_t ended;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(is_gone(other));  // nobody has waited for it
  EXPECT_EQ(wait_status_of(other), std::optional(SIGKILL));
  EXPECT_EQ(wait_status_of(self), std::nullopt);
  EXPECT_EQ(wait_status_of({}), std::nullopt);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_FALSE(is_stopped(other));
  EXPECT_TRUE(is_gone(other));
  EXPECT_EQ(wait_status_of(other), std::nullopt);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(ProcessState, KnowsHowAProcessEnded) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(3);
  }
  siginfo_t ended;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  const ProcessId ended_id = process_of(child);
  const int descriptor = descriptor_of(ended_id);
  const auto status = wait_status_of(ended_id);
  int told = 0;
  ASSERT_EQ(::waitpid(child, &told, 0), child);
  EXPECT_EQ(status, std::optional(told));
  EXPECT_EQ(wait_status_of(ended_id), std::nullopt);
  const auto late = wait_status_of(ended_id, descriptor);  // kernels from 6.15 on remember
  EXPECT_TRUE(late == std::nullopt || late == std::optional(told));
  std::cout << "[          ] the kernel " << (late ? "remembers" : "forgets") << " how a process ended\n";
  ::close(descriptor);
  EXPECT_EQ(WEXITSTATUS(told), 3);
}

TEST(ProcessState, KnowsWhoLaunchedThisProcess) {
  const ProcessId launcher = launcher_of_this_process();  // mpirun when this test is run under it, else the parent
  EXPECT_GT(launcher.pid, 0);
  EXPECT_FALSE(is_gone(launcher));
  EXPECT_FALSE(is_free(launcher.pid));
  EXPECT_NE(name_of(launcher), "");
  EXPECT_EQ(name_of({launcher.pid, launcher.started + 1}), "");
}

// A process that may not read the states of others, or cannot for a moment, takes nobody for dead.
TEST(ProcessState, TakesOneThatItCannotReadForUnknown) {
  const ProcessId other = own_process();
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{.rlim_cur = 0, .rlim_max = 0};
    if (::setrlimit(RLIMIT_NOFILE, &none) != 0 || ::dup(0) != -1 || errno != EMFILE) {
      ::_exit(100);
    }
    ::_exit((is_gone(other) ? 1 : 0) | (is_free(other.pid) ? 2 : 0) | (process_of(other.pid).pid != 0 ? 4 : 0) |
            (launcher_of_this_process().pid != 0 ? 8 : 0) | (is_stopped(other) ? 16 : 0));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ProcessState, SignalsAProcessAndNoneThatHasItsNumberLater) {
  for (const bool described : {true, false}) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (;;) {
        ::pause();
      }
    }
    const ProcessId process = process_of(child), earlier{process.pid, process.started + 1};
    EXPECT_EQ(descriptor_of(earlier), -1);
    send_signal(earlier, -1, SIGKILL);
    send_signal({}, -1, SIGKILL);
    EXPECT_FALSE(is_gone(process));
    EXPECT_FALSE(is_free(child));
    const int descriptor = described ? descriptor_of(process) : -1;
    send_signal(process, descriptor, SIGTERM);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
    EXPECT_TRUE(is_free(child));
    ::close(descriptor);
  }
}

}  // namespace
}  // namespace zoetrope
