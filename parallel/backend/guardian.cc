#include "parallel/backend/guardian.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/log.h"
#include "monitoring/trace.h"
#include "parallel/backend/host_name.h"
#include "parallel/backend/process_state.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Shared by a rank and its guardian. The file has a name in /proc/PID/fd only, for those who want to see what a rank
// does.
struct Page {
  PhaseNote note;
  std::atomic<std::uint32_t> started, excused;
  std::atomic<std::int32_t> leave;  // not 0: the guardian wants the rank to leave with this exit code
};

constexpr const char* kPageName = "zoetrope-phase";
constexpr const char* kProcessName = "zoetrope-guard";  // 15 characters at most
constexpr int kExitCode = 1;

// Of this process, for its signal handler.
std::atomic<Page*> own_page{nullptr};
std::atomic<std::int32_t> own_launcher{0};

// The launcher ends a job with SIGTERM to every rank: what it is for was told by whoever caused it. A terminal's signal
// has no sender.
extern "C" void on_termination(int signal, siginfo_t* from, void*) {
  if (Page* const page = own_page.load(); page != nullptr) {
    if (const int code = page->leave.load(); code != 0) {
      ::_exit(code);
    }
    if (from->si_pid == 0 || from->si_pid == own_launcher.load()) {
      page->excused.store(1);
    }
  }
  ::signal(signal, SIG_DFL);
  ::raise(signal);  // comes when this handler returns
}

// Open MPI's own file of a rank, through which the ranks of a host talk. The launcher removes them; one that was killed
// does not. Read from the rank's mappings while it lives.
std::vector<fs::path> segment_files(std::int32_t pid) {
  std::vector<fs::path> files;
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    const std::size_t at = line.find('/');
    if (at == std::string::npos) {
      continue;
    }
    const fs::path file(line.substr(at));
    if (file.filename().string().starts_with("vader_segment.") && std::ranges::find(files, file) == files.end()) {
      files.push_back(file);
    }
  }
  return files;
}

// ".../ompi.HOST.USER/pid.LAUNCHER" or ".../jf.JOB" below it, as Open MPI's launcher names its folder to those it
// starts; empty when the variable names anything else, because what is in it is going to be removed.
fs::path session_folder() {
  const char* const named = std::getenv("PMIX_SERVER_TMPDIR");
  if (named == nullptr) {
    return {};
  }
  const fs::path folder(named);
  const std::string name = folder.filename().string();
  const bool ours = folder.is_absolute() && (name.starts_with("pid.") || name.starts_with("jf.")) &&
                    folder.parent_path().filename().string().starts_with("ompi.");
  return ours ? folder : fs::path();
}

// The guardian's side. Everything here runs in its process.
class Watch {
 public:
  Watch(Page& page, int rank, ProcessId process, ProcessId launcher, int rank_lives, const GuardianTimes& times)
      : page_(page),
        rank_(rank),
        process_(process),
        launcher_(launcher),
        rank_lives_(rank_lives),
        times_(times),
        session_(session_folder()),
        descriptor_(descriptor_of(process)) {
    ::signal(SIGPIPE, SIG_IGN);  // nobody may be left to read what it says; there is more to do
    if (rank == 0) {
      launcher_errors_ =
          ::open(fmt::format("/proc/{}/fd/2", launcher.pid).c_str(), O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC);
    }
  }

  void run() {
    while (lives(times_.look)) {
      look();
    }
    if (launcher_is_gone()) {
      say_launcher_is_gone();
      sweep();
    } else if (page_.excused.load() == 0) {
      say_dead();
    }
  }

 private:
  // True when the rank still lives after `time`; its end of the pipe closes with it.
  bool lives(milliseconds time) const {
    pollfd waiting{.fd = rank_lives_, .events = POLLIN, .revents = 0};
    return ::poll(&waiting, 1, static_cast<int>(time.count())) <= 0;
  }

  void look() {
    const auto now = Clock::now();
    // One that was stopped itself, with the whole host perhaps, counts anew.
    const bool watched = now < last_look_ + 3 * times_.look;
    last_look_ = now;
    if (page_.leave.load() != 0) {
      return;  // it was told to go, and cannot
    }
    const bool launcher_gone = launcher_is_gone();
    if (files_.empty() || page_.started.load() == 0 || launcher_gone) {
      if (auto files = segment_files(process_.pid); !files.empty()) {
        files_ = std::move(files);
      }
    }
    if (launcher_gone) {
      say_launcher_is_gone();
      end_rank(kExitCode);
      return;
    }
    // Together with its launcher: somebody suspended the job.
    if (!is_stopped(process_) || is_stopped(launcher_) || !watched) {
      stopped_since_ = now;
    } else if (now >= stopped_since_ + times_.stopped_max) {
      say(fmt::format("stopped by a signal for {:.0f} s in phase {}",
                      static_cast<double>(times_.stopped_max.count()) / 1000, described(page_.note)),
          "a process that runs", "see who sent it SIGSTOP, then start the job again");
      end_rank(kExitCode);
    }
    if (page_.started.load() == 0 && now >= begun_ + times_.start_max + turn()) {
      say(fmt::format("in phase {} for {:.0f} s", described(page_.note),
                      static_cast<double>(times_.start_max.count()) / 1000),
          "all ranks of the job within that time",
          "see whether every host answers and every rank was started, then start the job again");
      end_rank(kExitCode);
    }
  }

  // The ranks of a job that does not start would all say so: one after the other, and the first ends the job.
  milliseconds turn() const { return std::chrono::seconds(3) * std::min(rank_, 10); }

  bool launcher_is_gone() const { return launcher_.pid > 1 && is_gone(launcher_); }

  void say(const std::string& found, const std::string& expected, const std::string& remedy) {
    print_failure(
        fmt::format("rank {} on host {}: found it {}, expected {}; {}", rank_, host_name(), found, expected, remedy));
  }

  // One that left with an exit code has said why, or a library of it has: Open MPI ends a rank so whose peer on another
  // host has died.
  void say_dead() {
    const auto status = ended_how();
    if (status && WIFEXITED(*status)) {
      return;
    }
    const std::string how = status ? fmt::format("killed by signal {}", WTERMSIG(*status)) : "killed or crashed";
    say(fmt::format("{} in phase {}", how, described(page_.note)), "a process that runs to the end of the job",
        "signal 9 is often the kernel, out of memory: see its log and the launcher's words, then start the job again");
  }

  // Its pipe is closed a moment before the rank has ended, and its launcher waits for it a moment later.
  std::optional<int> ended_how() const {
    std::optional<int> status;
    for (int tries = 0; !status && tries < 1000; ++tries) {
      const bool gone = is_gone(process_);
      status = wait_status_of(process_, descriptor_);
      if (gone) {
        break;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return status;
  }

  // What a rank prints goes through the launcher, so this one line goes where the launcher's own words went.
  void say_launcher_is_gone() {
    if (rank_ == 0 && page_.leave.load() == 0) {
      if (launcher_errors_ >= 0) {
        ::dup2(launcher_errors_, 2);
      }
      print_failure(
          fmt::format("the launcher (process {}) on host {}: found it gone, killed or crashed, while rank 0 was in "
                      "phase {}, expected it to "
                      "outlive its ranks; they end too: start the job again",
                      launcher_.pid, host_name(), described(page_.note)));
    }
  }

  // Lets the rank leave with an exit code; kills it when it cannot.
  void end_rank(int code) {
    page_.leave.store(code);
    page_.excused.store(1);
    ::kill(process_.pid, SIGTERM);
    ::kill(process_.pid, SIGCONT);
    if (lives(milliseconds(1000))) {
      ::kill(process_.pid, SIGKILL);
      lives(milliseconds(5000));
    }
  }

  void sweep() const {
    std::error_code ignored;
    for (const fs::path& file : files_) {
      fs::remove(file, ignored);
    }
    if (!session_.empty()) {
      fs::remove_all(session_, ignored);
      fs::remove(session_.parent_path(), ignored);  // when no other job of this user is in it
    }
  }

  Page& page_;
  int rank_;
  ProcessId process_, launcher_;
  int rank_lives_;
  int launcher_errors_ = -1;  // the launcher's standard error; -1: it cannot be opened, or another guardian tells
  GuardianTimes times_;
  fs::path session_;
  int descriptor_;  // of the rank
  std::vector<fs::path> files_;
  Clock::time_point begun_ = Clock::now(), last_look_ = begun_, stopped_since_ = begun_;
};

// Keeps standard error and the pipe; a reader of the rank's output must not wait for the guardian.
void keep_little_open(int pipe) {
  const int null = ::open("/dev/null", O_RDWR);
  ::dup2(null, 0);
  ::dup2(null, 1);
  ::close_range(3, static_cast<unsigned>(pipe) - 1, 0);
  ::close_range(static_cast<unsigned>(pipe) + 1, ~0U, 0);
}

}  // namespace

struct Guardian::State {
  Page* page = nullptr;
  int file = -1;   // of the page
  int alive = -1;  // the end of the pipe that closes with this process
  pid_t process = -1;
};

Guardian::Guardian(int rank, const GuardianTimes& times) : state_(std::make_unique<State>()) {
  state_->file = ::memfd_create(kPageName, MFD_CLOEXEC);
  void* memory = MAP_FAILED;
  if (state_->file >= 0 && ::ftruncate(state_->file, sizeof(Page)) == 0) {
    memory = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, state_->file, 0);
  }
  if (memory == MAP_FAILED) {
    refuse(Radius::kStartup, {fmt::format("a page that rank {} shares with its guardian", rank), std::strerror(errno),
                              "one page of memory", "free memory or raise the limit of this user"});
  }
  state_->page = ::new (memory) Page();
  check(own_page.exchange(state_->page) == nullptr, "a process has one guardian");
  int ends[2] = {-1, -1};
  const ProcessId self = own_process();
  const ProcessId launcher = launcher_of_this_process();
  own_launcher = launcher.pid;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    struct sigaction action {};
    action.sa_sigaction = on_termination;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(signal, &action, nullptr);
  }
  state_->process = ::pipe2(ends, O_CLOEXEC) == 0 ? ::fork() : -1;
  if (state_->process == 0) {
    own_page = nullptr;
    ::setsid();  // the launcher's and the terminal's signals are for the rank
    ::prctl(PR_SET_NAME, kProcessName);
    keep_little_open(ends[0]);
    Watch(*state_->page, rank, self, launcher, ends[0], times).run();
    ::_exit(0);
  }
  if (state_->process < 0) {
    log::warning("rank_without_guardian",
                 {{"cause", std::strerror(errno)}, {"effect", "nobody tells when this rank is killed"}});
  }
  ::close(ends[0]);
  state_->alive = ends[1];
}

Guardian::~Guardian() {
  excuse();
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    ::signal(signal, SIG_DFL);
  }
  own_page = nullptr;
  ::close(state_->alive);
  for (int tries = 0; state_->process > 0 && tries < 1000 && ::waitpid(state_->process, nullptr, WNOHANG) == 0;
       ++tries) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  ::munmap(state_->page, sizeof(Page));
  ::close(state_->file);
}

PhaseNote& Guardian::note() noexcept { return state_->page->note; }

void Guardian::started() noexcept { state_->page->started.store(1); }

void Guardian::excuse() noexcept { state_->page->excused.store(1); }

}  // namespace zoetrope
