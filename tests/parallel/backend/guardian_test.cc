// A process with a guardian is killed, stopped, told to go, or loses its launcher; what is said and what is left.
#include "parallel/backend/guardian.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/trace.h"
#include "parallel/backend/host_name.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr GuardianTimes kQuick{.look = 20ms, .stopped_max = 200ms, .start_max = 60s};

// A child that runs `body`, says what it prints on standard error, and ends with `body`'s code.
class Child {
 public:
  explicit Child(const std::function<int()>& body) {
    int ends[2] = {};
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(ends[1], 2);
      ::close(ends[0]);
      ::close(ends[1]);
      ::_exit(body());
    }
    ::close(ends[1]);
    output_ = ends[0];
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    ::close(output_);
  }

  pid_t process() const { return process_; }

  // What was said, once `part` is in it; all of it when every process that could say more has ended (part empty).
  std::string said(const std::string& part = "") {
    while (part.empty() || text_.find(part) == std::string::npos) {
      pollfd waiting{.fd = output_, .events = POLLIN, .revents = 0};
      char buffer[4096];
      const ssize_t count = ::poll(&waiting, 1, 20'000) > 0 ? ::read(output_, buffer, sizeof(buffer)) : -1;
      if (count <= 0) {
        EXPECT_EQ(count, 0) << "nobody said '" << part << "' and not everybody ended: " << text_;
        break;
      }
      text_.append(buffer, static_cast<std::size_t>(count));
    }
    return text_;
  }

  // The exit code, or minus the signal.
  int code() {
    int status = 0;
    EXPECT_EQ(::waitpid(process_, &status, 0), process_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t process_ = -1;
  int output_ = -1;
  std::string text_;
};

void say_ready() {
  if (::write(2, "ready\n", 6) != 6) {
    ::_exit(99);
  }
}

// In the ring of layer 3 in step 12, until something happens.
int busy_rank(int rank, const GuardianTimes& times = kQuick) {
  Guardian guardian(rank, times);
  guardian.started();
  TraceRecorder recorder(&guardian.note(), false);
  const Traced step(&recorder, TracePhase::kStep, 12);
  const Traced attention(&recorder, TracePhase::kAttention, 3);
  const Traced ring(&recorder, TracePhase::kRing);
  say_ready();
  for (;;) {
    ::pause();
  }
}

// From now on the system call fails in this process and its children, with EPERM. False when that cannot be had.
bool forbid(unsigned call) {
  std::array<sock_filter, 4> program{
      {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// The guardian of a process; 0 while there is none.
pid_t guardian_of(pid_t rank) {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");
    std::string pid, name, state;
    pid_t parent = 0;
    if (file >> pid >> name >> state >> parent && name == "(zoetrope-guard)" && parent == rank) {
      return std::stoi(pid);
    }
  }
  return 0;
}

std::string line(const std::string& text) { return "ready\nzoetrope: " + text + "\n"; }

TEST(Guardian, NamesRankHostPhaseAndStepOfAKilledRank) {
  Child rank([] { return busy_rank(5); });
  rank.said("ready");
  ::kill(rank.process(), SIGKILL);
  EXPECT_EQ(rank.said(),
            line("rank 5 on host " + host_name() +
                 ": found it killed by signal 9 in phase 'ring', layer 3, step 12, expected a process that "
                 "runs to the end of the job; signal 9 is often the kernel, out of memory: see its log and "
                 "the launcher's words, then start the job again"));
  EXPECT_EQ(rank.code(), -SIGKILL);
}

TEST(Guardian, TellsOfACrash) {
  Child rank([] {
    Guardian guardian(2, kQuick);
    say_ready();
    ::signal(SIGABRT, SIG_DFL);
    std::abort();
    return 0;
  });
  const std::string said = rank.said();
  EXPECT_NE(said.find("rank 2 on host " + host_name() +
                      ": found it killed by signal 6 in phase 'start of MPI', before the first step"),
            std::string::npos)
      << said;
  EXPECT_EQ(rank.code(), -SIGABRT);
}

// A broken invariant has told of itself: one line.
TEST(Guardian, AddsNothingToABrokenInvariant) {
  Child rank([] {
    Guardian guardian(2, kQuick);
    say_ready();
    check(false, "sky is green");
    return 0;
  });
  const std::string said = rank.said();
  EXPECT_TRUE(said.starts_with("ready\nzoetrope: broken invariant: sky is green (")) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;
  EXPECT_EQ(rank.code(), -SIGABRT);
}

// What the rank had open is not open in its guardian, or those at the other end would wait for both; nor is the rank's
// own end of the pipe that tells of its end. Also where close_range() is forbidden, as in some containers.
TEST(Guardian, KeepsNothingOpenOfItsRank) {
  for (const bool forbidden : {false, true}) {
    Child rank([forbidden] {
      if (forbidden && !forbid(SYS_close_range)) {
        ::_exit(97);
      }
      int ends[2] = {};
      if (::pipe2(ends, O_CLOEXEC) != 0) {
        ::_exit(98);
      }
      Guardian guardian(5, kQuick);
      guardian.started();
      ::close(ends[1]);
      pollfd waiting{.fd = ends[0], .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, 10'000) != 1 || (waiting.revents & POLLHUP) == 0) {
        ::_exit(99);
      }
      say_ready();
      for (;;) {
        ::pause();
      }
      return 0;
    });
    rank.said("ready");
    ::kill(rank.process(), SIGKILL);
    EXPECT_NE(rank.said().find("rank 5 on host " + host_name() + ": found it killed by signal 9"), std::string::npos);
    EXPECT_EQ(rank.code(), -SIGKILL);
  }
}

// The pipe alone tells it, long before it looks, though it cannot close what it does not need.
TEST(Guardian, NoticesTheEndOfItsRankAtOnce) {
  Child rank([] {
    if (!forbid(SYS_close_range) || !forbid(SYS_getdents64)) {
      ::_exit(97);
    }
    return busy_rank(5, {.look = 60s});
  });
  rank.said("ready");
  ::kill(rank.process(), SIGKILL);
  EXPECT_NE(rank.said("\nzoetrope: ").find("found it killed by signal 9"), std::string::npos);
}

// A child of the rank holds its end of the pipe open.
TEST(Guardian, NoticesTheEndOfARankWhoseChildLives) {
  Child rank([] {
    Guardian guardian(5, kQuick);
    guardian.started();
    if (::fork() == 0) {
      ::close(2);
      ::prctl(PR_SET_PDEATHSIG, 0);
      std::this_thread::sleep_for(20s);
      ::_exit(0);
    }
    say_ready();
    for (;;) {
      ::pause();
    }
    return 0;
  });
  rank.said("ready");
  const auto began = std::chrono::steady_clock::now();
  ::kill(rank.process(), SIGKILL);
  EXPECT_NE(rank.said().find("found it killed by signal 9"), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

TEST(Guardian, NeedsNoStandardInputAndOutput) {
  Child rank([] {
    ::close(0);
    ::close(1);
    return busy_rank(5);
  });
  rank.said("ready");
  std::this_thread::sleep_for(500ms);  // longer than a guardian that takes it for dead waits for the signal's number
  ::kill(rank.process(), SIGKILL);
  EXPECT_NE(rank.said().find("found it killed by signal 9 in phase 'ring'"), std::string::npos);
  EXPECT_EQ(rank.code(), -SIGKILL);
}

// nohup ignores SIGHUP; a program may have a handler of its own.
TEST(Guardian, LeavesIgnoredSignalsAloneAndPutsHandlersBack) {
  Child rank([] {
    const auto handler_of = [](int signal) {
      struct sigaction action {};
      ::sigaction(signal, nullptr, &action);
      return action.sa_handler;
    };
    const sighandler_t own = [](int) {};
    ::signal(SIGHUP, SIG_IGN);
    ::signal(SIGINT, own);
    int wrong = 0;
    {
      const Guardian guardian(5, kQuick);
      wrong |= handler_of(SIGHUP) != SIG_IGN ? 1 : 0;
      wrong |= handler_of(SIGINT) == own || handler_of(SIGTERM) == SIG_DFL ? 2 : 0;
    }
    wrong |= handler_of(SIGHUP) != SIG_IGN ? 4 : 0;
    wrong |= handler_of(SIGINT) != own ? 8 : 0;
    wrong |= handler_of(SIGTERM) != SIG_DFL ? 16 : 0;
    return wrong;
  });
  EXPECT_EQ(rank.said(), "");
  EXPECT_EQ(rank.code(), 0);
}

TEST(Guardian, EndsAStoppedRankAndNamesIt) {
  Child rank([] { return busy_rank(1); });
  rank.said("ready");
  ::kill(rank.process(), SIGSTOP);
  EXPECT_EQ(rank.said(), line("rank 1 on host " + host_name() +
                              ": found it stopped by a signal for 0 s in phase 'ring', layer 3, step 12, expected a "
                              "process that runs; see who sent it SIGSTOP, "
                              "then start the job again"));
  EXPECT_EQ(rank.code(), 1);
}

TEST(Guardian, LetsARankGoOnThatWasStoppedForAMoment) {
  Child rank([] { return busy_rank(1, {.look = 20ms, .stopped_max = 2000ms}); });
  rank.said("ready");
  for (int turn = 0; turn < 4; ++turn) {
    ::kill(rank.process(), SIGSTOP);
    std::this_thread::sleep_for(100ms);
    ::kill(rank.process(), SIGCONT);
    std::this_thread::sleep_for(100ms);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(rank.process(), &status, WNOHANG), 0);
}

TEST(Guardian, IsSilentWhenARankEndsOfItself) {
  Child ends([] {
    const Guardian guardian(0, kQuick);
    say_ready();
    return 7;
  });
  EXPECT_EQ(ends.said(), "ready\n");
  EXPECT_EQ(ends.code(), 7);
  Child leaves([] {  // as a library may do
    Guardian guardian(0, kQuick);
    say_ready();
    ::_exit(3);
    return 0;
  });
  EXPECT_EQ(leaves.said(), "ready\n");
  EXPECT_EQ(leaves.code(), 3);
  Child excused([] {
    Guardian guardian(0, kQuick);
    guardian.excuse();
    say_ready();
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(excused.said(), "ready\n");
}

// The launcher's SIGTERM follows a failure that somebody else has told; one of anybody else is a kill.
TEST(Guardian, IsSilentWhenTheLauncherEndsTheRank) {
  Child rank([] { return busy_rank(3); });
  rank.said("ready");
  ::kill(rank.process(), SIGTERM);  // this process is its parent
  EXPECT_EQ(rank.said(), "ready\n");
  EXPECT_EQ(rank.code(), -SIGTERM);
  Child other([] { return busy_rank(3); });
  other.said("ready");
  const pid_t stranger = ::fork();
  if (stranger == 0) {
    ::kill(other.process(), SIGTERM);
    ::_exit(0);
  }
  EXPECT_NE(other.said().find("rank 3 on host " + host_name() + ": found it killed by signal 15 in phase 'ring'"),
            std::string::npos);
  EXPECT_EQ(other.code(), -SIGTERM);
  ::waitpid(stranger, nullptr, 0);
}

TEST(Guardian, EndsARankWhoseJobDoesNotStart) {
  Child rank([] {
    const Guardian guardian(0, {.look = 20ms, .stopped_max = 60s, .start_max = 300ms});
    say_ready();
    for (;;) {
      ::pause();
    }
    return 0;
  });
  const std::string said = rank.said();
  EXPECT_NE(said.find("rank 0 on host " + host_name() +
                      ": found it in phase 'start of MPI', before the first step for 0 s, expected all ranks of the "
                      "job within that time"),
            std::string::npos)
      << said;
  EXPECT_EQ(rank.code(), 1);
}

// The time in which a job starts is that in which its guardian sees it start.
TEST(Guardian, DoesNotCountTheTimeInWhichItWasSuspended) {
  Child rank([] {
    const Guardian guardian(0, {.look = 20ms, .stopped_max = 60s, .start_max = 2s});
    say_ready();
    for (;;) {
      ::pause();
    }
    return 0;
  });
  rank.said("ready");
  pid_t guardian = 0;
  while ((guardian = guardian_of(rank.process())) == 0) {
    std::this_thread::sleep_for(1ms);
  }
  ::kill(guardian, SIGSTOP);
  std::this_thread::sleep_for(2500ms);
  ::kill(guardian, SIGCONT);
  std::this_thread::sleep_for(300ms);
  int status = 0;
  EXPECT_EQ(::waitpid(rank.process(), &status, WNOHANG), 0);
  EXPECT_NE(rank.said().find("found it in phase 'start of MPI', before the first step for 2 s"), std::string::npos);
  EXPECT_EQ(rank.code(), 1);
}

TEST(Guardian, ReadsTheTimeOfTheStartFromTheEnvironment) {
  ::unsetenv("ZOETROPE_START_SECONDS");
  EXPECT_EQ(GuardianTimes::of_environment().start_max, 2min);
  for (const auto& [text, time] : {std::pair("", 120'000ms), std::pair("300", 300'000ms), std::pair("0.5", 500ms),
                                   std::pair("1e-9", 1ms), std::pair("1000000", 1'000'000'000ms)}) {
    ::setenv("ZOETROPE_START_SECONDS", text, 1);
    EXPECT_EQ(GuardianTimes::of_environment().start_max, time) << text;
  }
  for (const std::string text : {"0", "-3", "nan", "inf", "1000001", "10 s", "two", " 5", "1e999"}) {
    ::setenv("ZOETROPE_START_SECONDS", text.c_str(), 1);
    try {
      GuardianTimes::of_environment();
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), "the environment variable ZOETROPE_START_SECONDS: found '" + text +
                                  "', expected a positive number of seconds, at most 1000000; set it to the time in "
                                  "which all ranks of the job have started, or leave it out for 120 s");
    }
  }
  ::unsetenv("ZOETROPE_START_SECONDS");
}

// A launcher that is killed cannot take away its folder and the memory that its ranks talk through. The folder is its
// own by its name alone: the variable may come from the launcher of another job, in which this one was started.
void sweep_after(const std::string& name_of_launcher, const std::string& folder, bool own) {
  SCOPED_TRACE(name_of_launcher + " with " + folder);
  const fs::path base = fs::path(testing::TempDir()) / ("zoetrope_guardian." + std::to_string(::getpid()));
  const fs::path segment = base / "vader_segment.host.0.abc.0", other = base / "vader_segment.of.another.job";
  const auto session_of = [&](pid_t launcher) {
    return base / "ompi.host.0" / (folder == "pid." ? folder + std::to_string(launcher) : folder);
  };
  fs::create_directories(base);
  std::ofstream(segment) << std::string(4096, 'x');
  std::ofstream(other) << "x";
  Child launcher([&] {
    const fs::path session = session_of(::getpid());
    fs::create_directories(session / "0");
    std::ofstream(session / "0" / "contact.txt") << "x";
    ::prctl(PR_SET_NAME, name_of_launcher.c_str());
    ::setenv("PMIX_SERVER_TMPDIR", session.c_str(), 1);
    for (const int rank : {0, 1}) {
      if (::fork() == 0) {
        const int file = ::open(segment.c_str(), O_RDWR);
        if (::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED) {
          ::_exit(98);
        }
        busy_rank(rank);
      }
    }
    for (;;) {
      ::pause();
    }
    return 0;
  });
  launcher.said("ready\nready\n");
  std::this_thread::sleep_for(200ms);  // a look or two
  EXPECT_TRUE(fs::exists(segment));
  ::kill(launcher.process(), SIGKILL);
  const std::string said = launcher.said();  // until ranks and guardians are gone
  EXPECT_NE(said.find("the launcher (process " + std::to_string(launcher.process()) + ") on host " + host_name()),
            std::string::npos)
      << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 3) << said;  // two that are ready, one message
  EXPECT_FALSE(fs::exists(segment));
  EXPECT_EQ(fs::exists(session_of(launcher.process()) / "0" / "contact.txt"), !own);
  EXPECT_EQ(fs::exists(base / "ompi.host.0"), !own);
  EXPECT_TRUE(fs::exists(other));
  fs::remove_all(base);
}

TEST(Guardian, SweepsWhatAKilledLauncherLeaves) {
  sweep_after("mpirun", "pid.", true);  // and its number
  sweep_after("orted", "jf.17", true);
}

TEST(Guardian, SweepsNoFolderOfAnotherLauncher) {
  sweep_after("mpirun", "pid.17", false);
  sweep_after("mpirun", "jf.17", false);
  sweep_after("orted", "pid.17", false);
}

// A launcher that is gone after it has ended its ranks was ended as it should.
TEST(Guardian, SaysNothingOfALauncherThatIsGoneAfterTheEndOfItsRanks) {
  Child launcher([] {
    const pid_t rank = ::fork();
    if (rank == 0) {
      Guardian guardian(0, {.look = 60s});  // it looks when the rank has ended only
      guardian.excuse();
      say_ready();
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) {
        ::pause();
      }
    }
    for (;;) {
      ::pause();
    }
    return 0;
  });
  launcher.said("ready");
  std::this_thread::sleep_for(100ms);
  ::kill(launcher.process(), SIGKILL);
  EXPECT_EQ(launcher.said(), "ready\n");
}

// What a rank does can be read by whoever may see its process.
TEST(Guardian, ShowsThePhaseUnderProc) {
  Child rank([] { return busy_rank(4); });
  rank.said("ready");
  bool found = false;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(rank.process()) + "/fd")) {
    std::error_code ec;
    if (fs::read_symlink(entry.path(), ec).string().starts_with("/memfd:zoetrope-phase")) {
      std::ifstream shared(entry.path(), std::ios::binary);
      PhaseNote note;
      found = static_cast<bool>(shared.read(reinterpret_cast<char*>(&note), sizeof(note)));
      EXPECT_EQ(described(note), "'ring', layer 3, step 12");
    }
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace zoetrope
