// A process with a guardian is killed, stopped, told to go, or loses its launcher; what is said and what is left.
#include "parallel/backend/guardian.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

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

// A launcher that is killed cannot take away its folder and the memory that its ranks talk through.
TEST(Guardian, SweepsWhatAKilledLauncherLeaves) {
  const fs::path base = fs::path(testing::TempDir()) / ("zoetrope_guardian." + std::to_string(::getpid()));
  const fs::path session = base / "ompi.host.0" / "pid.17", segment = base / "vader_segment.host.0.abc.0",
                 other = base / "vader_segment.of.another.job";
  fs::create_directories(session / "0");
  std::ofstream(session / "0" / "contact.txt") << "x";
  std::ofstream(segment) << std::string(4096, 'x');
  std::ofstream(other) << "x";
  Child launcher([&] {
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
  while (launcher.said("ready").find("ready\nready\n") == std::string::npos) {
    launcher.said("ready\nready\n");
  }
  std::this_thread::sleep_for(200ms);  // a look or two
  EXPECT_TRUE(fs::exists(segment));
  ::kill(launcher.process(), SIGKILL);
  const std::string said = launcher.said();  // until ranks and guardians are gone
  EXPECT_NE(said.find("the launcher (process " + std::to_string(launcher.process()) + ") on host " + host_name()),
            std::string::npos)
      << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 3) << said;  // two that are ready, one message
  EXPECT_FALSE(fs::exists(segment));
  EXPECT_FALSE(fs::exists(session.parent_path()));
  EXPECT_TRUE(fs::exists(other));
  fs::remove_all(base);
}

// What a rank does can be read by whoever may see its process.
TEST(Guardian, ShowsThePhaseUnderProc) {
  Child rank([] { return busy_rank(4); });
  rank.said("ready");
  bool found = false;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(rank.process()) + "/fd")) {
    std::error_code ec;
    if (fs::read_symlink(entry.path(), ec).string().starts_with("/memfd:zoetrope-phase")) {
      std::ifstream page(entry.path(), std::ios::binary);
      PhaseNote note;
      found = static_cast<bool>(page.read(reinterpret_cast<char*>(&note), sizeof(note)));
      EXPECT_EQ(described(note), "'ring', layer 3, step 12");
    }
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace zoetrope
