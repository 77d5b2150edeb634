#include "parallel/backend/guardian.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
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
struct SharedNote {
  PhaseNote note;
  std::atomic<std::uint32_t> started, excused;
  std::atomic<std::int32_t> leave;  // not 0: the guardian wants the rank to leave with this exit code
};

constexpr const char* kNoteName = "zoetrope-phase";
constexpr const char* kStartVariable = "ZOETROPE_START_SECONDS";
constexpr double kStartSecondsMax = 1e6;
constexpr const char* kProcessName = "zoetrope-guard";  // 15 characters at most
constexpr int kExitCode = 1;

// Signals by which a launcher or a terminal ends a rank.
constexpr std::array<int, 3> kTerminations{SIGTERM, SIGINT, SIGHUP};

// Of this process, for its signal handler.
std::atomic<SharedNote*> own_note{nullptr};
std::atomic<std::int32_t> own_launcher{0};
std::array<struct sigaction, kTerminations.size()> actions_before{};

void restore_action(std::size_t at) {
  if (actions_before[at].sa_handler != SIG_IGN) {
    ::sigaction(kTerminations[at], &actions_before[at], nullptr);
  }
}

// The launcher ends a job with SIGTERM to every rank: what it is for was told by whoever caused it. A terminal's signal
// has no sender.
extern "C" void on_termination(int signal, siginfo_t* from, void*) {
  if (SharedNote* const shared = own_note.load(); shared != nullptr) {
    if (const int code = shared->leave.load(); code != 0) {
      ::_exit(code);
    }
    if (from->si_pid == 0 || from->si_pid == own_launcher.load()) {
      shared->excused.store(1);
    }
  }
  restore_action(static_cast<std::size_t>(std::ranges::find(kTerminations, signal) - kTerminations.begin()));
  ::raise(signal);  // comes when this handler returns
}

// What is ignored stays so (nohup); what else was there is kept for the end.
void install_termination_handler() {
  for (std::size_t at = 0; at < kTerminations.size(); ++at) {
    struct sigaction action {};
    action.sa_sigaction = on_termination;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(kTerminations[at], nullptr, &actions_before[at]);
    if (actions_before[at].sa_handler != SIG_IGN) {
      ::sigaction(kTerminations[at], &action, nullptr);
    }
  }
}

void excuse_own_rank() noexcept {
  if (SharedNote* const shared = own_note.load(); shared != nullptr) {
    shared->excused.store(1);
  }
}

// Files of Open MPI 4 through which the ranks of a host talk (vader); those of its other transports and of other MPIs
// have other names and are left. The launcher removes them; one that was killed does not. Read from the rank's mappings
// while it lives.
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

// ".../ompi.HOST.USER/pid.LAUNCHER" of mpirun or ".../ompi.HOST.USER/jf.JOB" of orted, as Open MPI's launcher names its
// folder to those it starts. Empty when the variable names anything else, the folder of another launcher for instance
// whose environment this job was started in, because what is in it is going to be removed.
fs::path session_folder(const ProcessId& launcher) {
  const char* const named = std::getenv("PMIX_SERVER_TMPDIR");
  if (named == nullptr) {
    return {};
  }
  const fs::path folder(named);
  const std::string name = folder.filename().string();
  const bool ours = launcher.pid > 0 && (name == fmt::format("pid.{}", launcher.pid) ||
                                         (name.starts_with("jf.") && name_of(launcher) == "orted"));
  return ours && folder.is_absolute() && folder.parent_path().filename().string().starts_with("ompi.") ? folder
                                                                                                       : fs::path();
}

// The guardian's side. Everything here runs in its process.
class Watch {
 public:
  Watch(SharedNote& shared, int rank, ProcessId process, ProcessId launcher, int rank_lives, const GuardianTimes& times)
      : shared_(shared),
        rank_(rank),
        process_(process),
        launcher_(launcher),
        rank_lives_(rank_lives),
        times_(times),
        session_(session_folder(launcher)),
        descriptor_(descriptor_of(process)) {
    ::signal(SIGPIPE, SIG_IGN);  // nobody may be left to read what it says; there is more to do
    if (rank == 0) {             // a pipe that nobody reads must not hold it up
      launcher_errors_ = ::open(fmt::format("/proc/{}/fd/2", launcher.pid).c_str(),
                                O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    }
  }

  void run() {
    while (lives(times_.look)) {
      look();
    }
    const bool excused = shared_.excused.load() != 0;
    if (launcher_is_gone()) {
      if (!excused) {
        say_launcher_is_gone();
      }
      sweep();
    } else if (!excused) {
      say_dead();
    }
  }

 private:
  // True when the rank still lives after `time`; its end of the pipe closes with it, unless a child of its own has that
  // too.
  bool lives(milliseconds time) const {
    pollfd waiting{.fd = rank_lives_, .events = POLLIN, .revents = 0};
    return ::poll(&waiting, 1, static_cast<int>(time.count())) <= 0 && !is_gone(process_);
  }

  void look() {
    const auto now = Clock::now();
    // One that was stopped itself, with the whole host perhaps, counts anew.
    const bool watched = now < last_look_ + 3 * times_.look;
    const bool suspended = !watched || is_stopped(launcher_);  // the latter: somebody suspended the job
    if (suspended) {
      begun_ += now - last_look_;
    }
    last_look_ = now;
    if (shared_.leave.load() != 0) {
      return;  // it was told to go, and cannot
    }
    const bool launcher_gone = launcher_is_gone();
    const bool started = shared_.started.load() != 0;
    if (!files_final_ || launcher_gone) {
      if (auto files = segment_files(process_.pid); !files.empty()) {
        files_ = std::move(files);
      }
      files_final_ = started;
    }
    if (launcher_gone) {
      if (shared_.excused.load() == 0) {
        say_launcher_is_gone();
      }
      end_rank(kExitCode);
      return;
    }
    if (suspended || !is_stopped(process_)) {
      stopped_since_ = now;
    } else if (now >= stopped_since_ + times_.stopped_max) {
      say(fmt::format("stopped by a signal for {:.0f} s in phase {}",
                      static_cast<double>(times_.stopped_max.count()) / 1000, described(shared_.note)),
          "a process that runs", "see who sent it SIGSTOP, then start the job again");
      end_rank(kExitCode);
      return;
    }
    if (!started && now >= begun_ + times_.start_max + turn()) {
      say(fmt::format("in phase {} for {:.0f} s", described(shared_.note),
                      static_cast<double>(times_.start_max.count()) / 1000),
          "all ranks of the job within that time",
          fmt::format("see whether every host answers and every rank was started, then start the job again, with "
                      "a larger {} if it needs longer",
                      kStartVariable));
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
    say(fmt::format("{} in phase {}", how, described(shared_.note)), "a process that runs to the end of the job",
        fmt::format("{}, then start the job again",
                    what_to_see(status && WIFSIGNALED(*status) ? WTERMSIG(*status) : SIGKILL)));
  }

  static const char* what_to_see(int signal) {
    switch (signal) {
      case SIGKILL:
        return "signal 9 is often the kernel, out of memory: see its log and the launcher's words";
      case SIGBUS:
        return "signal 7 is often a file that shrank or a disk that failed while it was mapped: check the checkpoint "
               "and /dev/shm";
      case SIGSEGV:
      case SIGILL:
      case SIGFPE:
      case SIGABRT:
      case SIGSYS:
      case SIGTRAP:
        return "this is a fault of the program or of its memory: report it with what stands above";
      default:
        return "see who sent it that signal, a time limit or an operator";
    }
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
    if (rank_ == 0) {
      if (launcher_errors_ >= 0) {
        pollfd room{.fd = launcher_errors_, .events = POLLOUT, .revents = 0};
        ::poll(&room, 1, 1000);
        ::dup2(launcher_errors_, 2);
      }
      print_failure(
          fmt::format("the launcher (process {}) on host {}: found it gone, killed or crashed, while rank 0 was in "
                      "phase {}, expected it to "
                      "outlive its ranks; they end too: start the job again",
                      launcher_.pid, host_name(), described(shared_.note)));
    }
  }

  // Lets the rank leave with an exit code; kills it when it cannot.
  void end_rank(int code) {
    shared_.leave.store(code);
    shared_.excused.store(1);
    send_signal(process_, descriptor_, SIGTERM);
    send_signal(process_, descriptor_, SIGCONT);
    if (lives(milliseconds(1000))) {
      send_signal(process_, descriptor_, SIGKILL);
      lives(milliseconds(5000));
    }
  }

  void sweep() const {
    std::error_code ignored;
    for (const fs::path& file : files_) {
      fs::remove(file, ignored);
    }
    if (!session_.empty() && is_free(launcher_.pid)) {  // else a new launcher may call its folder so
      fs::remove_all(session_, ignored);
      fs::remove(session_.parent_path(), ignored);  // when no other job of this user is in it
    }
  }

  SharedNote& shared_;
  int rank_;
  ProcessId process_, launcher_;
  int rank_lives_;
  int launcher_errors_ = -1;  // the launcher's standard error; -1: it cannot be opened, or another guardian tells
  GuardianTimes times_;
  fs::path session_;
  int descriptor_;  // of the rank
  std::vector<fs::path> files_;
  bool files_final_ = false;  // MPI had started when they were read
  Clock::time_point begun_ = Clock::now(), last_look_ = begun_, stopped_since_ = begun_;
};

// Closes what is open from `first` on, but for `kept`; also where close_range() is missing (Linux before 5.9) or
// forbidden (containers).
void close_all(unsigned first, unsigned kept) {
  const bool below = first == kept || ::close_range(first, kept - 1, 0) == 0;
  if (below && ::close_range(kept + 1, ~0U, 0) == 0) {
    return;
  }
  std::error_code failed;
  std::vector<int> open;
  for (fs::directory_iterator entry("/proc/self/fd", failed), end; !failed && entry != end; entry.increment(failed)) {
    open.push_back(std::atoi(entry->path().filename().c_str()));
  }
  for (const int file : open) {
    if (static_cast<unsigned>(file) >= first && static_cast<unsigned>(file) != kept) {
      ::close(file);
    }
  }
}

// Keeps standard error and the pipe; a reader of the rank's output must not wait for the guardian.
void keep_little_open(int pipe) {
  const int null = ::open("/dev/null", O_RDWR);
  ::dup2(null, 0);
  ::dup2(null, 1);
  close_all(3, static_cast<unsigned>(pipe));
}

// The same file under a number that is none of standard input, output and error, where one of those was closed. -1 when
// there is none left.
int beyond_standard(int file) {
  if (file < 0 || file > 2) {
    return file;
  }
  const int moved = ::fcntl(file, F_DUPFD_CLOEXEC, 3);
  const int error = errno;
  ::close(file);
  errno = error;
  return moved;
}

// False, with errno, when there is none.
bool make_pipe(std::array<int, 2>& ends) {
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return false;
  }
  ends = {beyond_standard(ends[0]), beyond_standard(ends[1])};
  return ends[0] >= 0 && ends[1] >= 0;
}

}  // namespace

GuardianTimes GuardianTimes::of_environment() {
  GuardianTimes times;
  const char* const told = std::getenv(kStartVariable);
  if (told == nullptr || *told == '\0') {
    return times;
  }
  const std::string_view text(told);
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || !(seconds > 0 && seconds <= kStartSecondsMax)) {
    refuse(Radius::kStartup, {fmt::format("the environment variable {}", kStartVariable), quoted(text),
                              fmt::format("a positive number of seconds, at most {:.0f}", kStartSecondsMax),
                              fmt::format("set it to the time in which all ranks of the job have started, or leave it "
                                          "out for {} s",
                                          std::chrono::duration_cast<std::chrono::seconds>(times.start_max).count())});
  }
  times.start_max = std::chrono::ceil<milliseconds>(std::chrono::duration<double>(seconds));
  return times;
}

struct Guardian::State {
  SharedNote* shared = nullptr;
  int file = -1;   // of the note
  int alive = -1;  // the end of the pipe that closes with this process
  pid_t process = -1;
};

Guardian::Guardian(int rank, const GuardianTimes& times) : state_(std::make_unique<State>()) {
  const ProcessId self = own_process();
  const ProcessId launcher = launcher_of_this_process();
  state_->file = beyond_standard(::memfd_create(kNoteName, MFD_CLOEXEC));
  void* memory = MAP_FAILED;
  if (state_->file >= 0 && ::ftruncate(state_->file, sizeof(SharedNote)) == 0) {
    memory = ::mmap(nullptr, sizeof(SharedNote), PROT_READ | PROT_WRITE, MAP_SHARED, state_->file, 0);
  }
  if (memory == MAP_FAILED) {
    refuse(Radius::kStartup, {fmt::format("the note that rank {} shares with its guardian", rank), std::strerror(errno),
                              fmt::format("{} bytes of memory and a file descriptor", sizeof(SharedNote)),
                              "free memory or raise the limit of this user"});
  }
  state_->shared = ::new (memory) SharedNote();
  check(own_note.exchange(state_->shared) == nullptr, "a process has one guardian");
  set_check_failed_hook(excuse_own_rank);
  own_launcher = launcher.pid > 0 ? launcher.pid : static_cast<std::int32_t>(::getppid());
  install_termination_handler();
  std::array<int, 2> ends{-1, -1};
  state_->process = make_pipe(ends) ? ::fork() : -1;
  if (state_->process == 0) {
    ::close(ends[1]);  // before all else: the pipe tells of the rank's end when nobody else has this end
    own_note = nullptr;
    ::setsid();  // the launcher's and the terminal's signals are for the rank
    ::prctl(PR_SET_NAME, kProcessName);
    keep_little_open(ends[0]);
    Watch(*state_->shared, rank, self, launcher, ends[0], times).run();
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
  for (std::size_t at = 0; at < kTerminations.size(); ++at) {
    restore_action(at);
  }
  own_note = nullptr;
  ::close(state_->alive);
  for (int tries = 0; state_->process > 0 && tries < 1000 && ::waitpid(state_->process, nullptr, WNOHANG) == 0;
       ++tries) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  ::munmap(state_->shared, sizeof(SharedNote));
  ::close(state_->file);
}

PhaseNote& Guardian::note() noexcept { return state_->shared->note; }

void Guardian::started() noexcept { state_->shared->started.store(1); }

void Guardian::excuse() noexcept { state_->shared->excused.store(1); }

}  // namespace zoetrope
