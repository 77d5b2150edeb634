// Under the launcher a rank dies, hangs or fails: all processes end within 10 seconds, and one message says why.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "parallel/backend/host_name.h"
#include "tests/source_folder.h"

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// A program under launch.sh with what it prints, standard error included. Ends its process group when it goes.
class Job {
 public:
  Job(int ranks, const std::string& mode, const std::string& deadline_ms) {
    int ends[2] = {};
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const std::string count = std::to_string(ranks);
    const std::string launcher = zoetrope::test::source_folder() / "deploy" / "mpi" / "launch.sh";
    process_ = ::fork();
    if (process_ == 0) {
      ::setpgid(0, 0);
      ::dup2(ends[1], 1);
      ::dup2(ends[1], 2);
      ::execl("/bin/bash", "bash", launcher.c_str(), count.c_str(), LOST_RANK_PROGRAM, mode.c_str(),
              deadline_ms.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    output_ = ends[0];
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() {
    ::kill(-process_, SIGKILL);
    if (!ended_) {
      ::waitpid(process_, nullptr, 0);
    }
    ::close(output_);
  }

  // Process of each rank; reads until all have said that they are ready.
  std::map<int, pid_t> ready(std::size_t ranks) {
    std::map<int, pid_t> processes;
    const auto until = Clock::now() + 60s;
    while (processes.size() < ranks && Clock::now() < until && read_some(100ms)) {
      processes.clear();
      std::istringstream lines(text_);
      for (std::string line; std::getline(lines, line);) {
        int rank = 0;
        int process = 0;
        if (std::sscanf(line.c_str(), "ready %d %d", &rank, &process) == 2) {
          processes[rank] = process;
        }
      }
    }
    EXPECT_EQ(processes.size(), ranks) << text_;
    processes_ = processes;
    return processes;
  }

  // Waits for the end of the launcher; the exit code, or -1 after `time`.
  int end(std::chrono::milliseconds time) {
    const auto until = Clock::now() + time;
    int status = 0;
    while (Clock::now() < until) {
      read_some(10ms);
      if (::waitpid(process_, &status, WNOHANG) == process_) {
        ended_ = true;
        while (read_some(200ms)) {
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
    }
    return -1;
  }

  // Ranks that still run. One that ended but that nobody has waited for (its launcher is gone, and a container may have
  // no init that does) is a zombie and runs no more. Waits a while for them: the launcher may leave a moment before the
  // last one that it killed.
  int alive() const {
    const auto until = Clock::now() + 3s;
    while (running() > 0 && Clock::now() < until) {
      std::this_thread::sleep_for(10ms);
    }
    return running();
  }

  const std::string& text() const { return text_; }

  // The launcher, the ranks, their guardians.
  std::vector<pid_t> everyone() const {
    std::vector<pid_t> found{process_};
    for (std::size_t at = 0; at < found.size(); ++at) {
      std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", found[at]));
      for (pid_t child = 0; children >> child;) {
        found.push_back(child);
      }
    }
    EXPECT_EQ(found.size(), 1 + 2 * processes_.size());
    return found;
  }

  int lines_with(const std::string& part) const {
    int count = 0;
    std::istringstream lines(text_);
    for (std::string line; std::getline(lines, line);) {
      count += line.find(part) != std::string::npos ? 1 : 0;
    }
    return count;
  }

 private:
  int running() const {
    int count = 0;
    for (const auto& [rank, process] : processes_) {
      std::ifstream stat("/proc/" + std::to_string(process) + "/stat");
      std::string line;
      if (std::getline(stat, line)) {
        const char state = line.at(line.rfind(')') + 2);
        count += state != 'Z' && state != 'X' ? 1 : 0;
      }
    }
    return count;
  }

  // False at the end of the output.
  bool read_some(std::chrono::milliseconds time) {
    pollfd waiting{.fd = output_, .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, static_cast<int>(time.count())) <= 0) {
      return !ended_;
    }
    char buffer[4096];
    const ssize_t count = ::read(output_, buffer, sizeof(buffer));
    if (count <= 0) {
      return false;
    }
    text_.append(buffer, static_cast<std::size_t>(count));
    return true;
  }

  pid_t process_ = -1;
  int output_ = -1;
  bool ended_ = false;
  std::string text_;
  std::map<int, pid_t> processes_;
};

constexpr const char* kMessage = "lost_rank_program:";

TEST(LostRank, AJobThatEndsWellSaysNothing) {
  Job job(3, "end", "20000");
  job.ready(3);
  EXPECT_EQ(job.end(30s), 0) << job.text();
  EXPECT_EQ(job.lines_with(""), 3) << job.text();  // the three that are ready
}

TEST(LostRank, AKilledRankEndsTheJob) {
  Job job(3, "loop", "3000");
  const auto processes = job.ready(3);
  ASSERT_EQ(::kill(processes.at(1), SIGKILL), 0);
  const auto start = Clock::now();
  EXPECT_NE(job.end(20s), 0);
  EXPECT_LT(Clock::now() - start, 10s);
  EXPECT_EQ(job.alive(), 0);
  EXPECT_EQ(job.lines_with("zoetrope: rank 1 on host " + zoetrope::host_name() + ": found it killed "), 1)
      << job.text();
  EXPECT_EQ(job.lines_with(" in phase 'run', before the first step"), 1) << job.text();
  EXPECT_EQ(job.lines_with("zoetrope: "), 1) << job.text();
}

// Nobody talks to it yet, and the launcher does not notice.
TEST(LostRank, ARankThatIsStoppedWhileMpiStartsIsNamed) {
  Job job(3, "stop-start", "20000");
  const auto start = Clock::now();
  EXPECT_EQ(job.end(20s), 1) << job.text();
  EXPECT_LT(Clock::now() - start, 10s);
  EXPECT_EQ(job.lines_with("zoetrope: rank 1 on host " + zoetrope::host_name() +
                           ": found it stopped by a signal for 4 s in phase 'start of MPI'"),
            1)
      << job.text();
  EXPECT_EQ(job.lines_with("zoetrope: "), 1) << job.text();
}

TEST(LostRank, AStoppedRankIsNamedAndEndsTheJob) {
  Job job(3, "loop", "1500");
  const auto processes = job.ready(3);
  ASSERT_EQ(::kill(processes.at(2), SIGSTOP), 0);
  const auto start = Clock::now();
  EXPECT_EQ(job.end(20s), 7) << job.text();
  EXPECT_GE(Clock::now() - start, 1s);
  EXPECT_LT(Clock::now() - start, 10s);
  EXPECT_EQ(job.alive(), 0);
  EXPECT_EQ(job.lines_with(kMessage), 1) << job.text();
  const std::size_t at = job.text().find(kMessage);
  ASSERT_NE(at, std::string::npos);
  const std::string line = job.text().substr(at, job.text().find('\n', at) - at);
  EXPECT_NE(line.find("rank 2"), std::string::npos) << line;
  EXPECT_NE(line.find("the loop of the test"), std::string::npos) << line;
}

// A stage of a pipeline that is killed or stopped: its neighbours wait for its rows, or for room.
TEST(LostRank, AKilledStageEndsTheJob) {
  Job job(3, "pipe", "3000");
  const auto processes = job.ready(3);
  ASSERT_EQ(::kill(processes.at(1), SIGKILL), 0);
  const auto start = Clock::now();
  EXPECT_NE(job.end(20s), 0);
  EXPECT_LT(Clock::now() - start, 10s);
  EXPECT_EQ(job.alive(), 0);
  EXPECT_GT(job.lines_with("rank 1"), 0) << job.text();
}

TEST(LostRank, AStoppedStageIsNamedWithWhatWasAwaited) {
  Job job(3, "pipe", "1500");
  const auto processes = job.ready(3);
  ASSERT_EQ(::kill(processes.at(1), SIGSTOP), 0);
  const auto start = Clock::now();
  EXPECT_EQ(job.end(20s), 7) << job.text();
  EXPECT_LT(Clock::now() - start, 10s);
  EXPECT_EQ(job.alive(), 0);
  EXPECT_EQ(job.lines_with(kMessage), 1) << job.text();
  EXPECT_TRUE(job.text().find("rows from the stage before") != std::string::npos ||
              job.text().find("rows to the next stage") != std::string::npos)
      << job.text();
}

// What suspends a job (a scheduler, a terminal) takes no time from anybody's deadline.
TEST(LostRank, AJobThatWasSuspendedForLongerThanItsDeadlineGoesOn) {
  Job job(3, "loop", "1500");
  job.ready(3);
  std::vector<pid_t> everyone = job.everyone();
  for (const pid_t process : everyone) {  // those behind the first rank wait for it
    ASSERT_EQ(::kill(process, SIGSTOP), 0);
    std::this_thread::sleep_for(50ms);
  }
  std::this_thread::sleep_for(3s);
  std::ranges::reverse(everyone);
  for (const pid_t process : everyone) {  // and run again before it
    ASSERT_EQ(::kill(process, SIGCONT), 0);
    std::this_thread::sleep_for(50ms);
  }
  EXPECT_EQ(job.end(3s), -1) << job.text();
  EXPECT_EQ(job.lines_with(kMessage), 0) << job.text();
  EXPECT_EQ(job.alive(), 3);
}

TEST(LostRank, WhoStoppedTheJobSaysWhy) {
  Job job(3, "drop-one", "20000");
  job.ready(3);
  EXPECT_EQ(job.end(10s), 7) << job.text();
  EXPECT_EQ(job.alive(), 0);
  EXPECT_EQ(job.lines_with("zoetrope: "), 1) << job.text();
  EXPECT_EQ(job.lines_with("lost_rank_program: out of memory"), 1) << job.text();
}

TEST(LostRank, OneFailureIsOneMessage) {
  Job job(4, "fail-one", "20000");
  job.ready(4);
  EXPECT_EQ(job.end(10s), 7) << job.text();
  EXPECT_EQ(job.alive(), 0);
  EXPECT_EQ(job.lines_with("the checkpoint is not there"), 1) << job.text();
}

TEST(LostRank, TheSameFailureEverywhereIsOneMessage) {
  Job job(4, "fail-all", "20000");
  job.ready(4);
  EXPECT_EQ(job.end(10s), 7) << job.text();
  EXPECT_EQ(job.alive(), 0);
  EXPECT_EQ(job.lines_with("the checkpoint is not there"), 1) << job.text();
}

TEST(LostRank, AnAbortReachesEveryRank) {
  Job job(3, "abort-one", "20000");
  job.ready(3);
  EXPECT_EQ(job.end(10s), 7) << job.text();
  EXPECT_EQ(job.alive(), 0);
  EXPECT_EQ(job.lines_with("rank 1 stopped the job: the watchdog bit"), 1) << job.text();
}

}  // namespace
