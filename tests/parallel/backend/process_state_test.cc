#include "parallel/backend/process_state.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

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
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_FALSE(is_stopped(other));
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace zoetrope
