#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>

#include "monitoring/error.h"
#include "runtime/batch/batch.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/cli/terminal.h"

namespace zoetrope {
namespace {

std::string media_summary(const Answer& answer) {
  std::int64_t frames = 0, pictures = 0;
  for (const MediaReport& report : answer.media) {
    (report.kind == "image" ? pictures : frames) += report.kind == "image" ? 1 : report.frames_used;
  }
  std::string out;
  if (frames > 0) {
    out += fmt::format("{} frames, ", frames);
  }
  if (pictures > 0) {
    out += fmt::format("{} picture{}, ", pictures, pictures == 1 ? "" : "s");
  }
  return out;
}

// One block for each answer, as they finish: the whole batch is answered together, so a rate is that of one answer
// beside others.
void print_answer(const BatchAnswer& line) {
  const Answer& answer = *line.answer;
  std::string out;
  if (!answer.error.empty()) {
    out = fmt::format("{}  error: {}\n", line.custom_id, answer.error);
  } else {
    const double seconds = answer.encode_seconds + answer.prefill_seconds + answer.decode_seconds;
    const std::string cached = answer.cached_tokens > 0 ? fmt::format(" ({} cached)", answer.cached_tokens) : "";
    out = fmt::format("{}  {}\n    {}\n    {}{} prompt tokens{}, {} answer tokens at {:.0f} tokens/s, {} in all\n",
                      line.custom_id, line.question, answer.text, media_summary(answer), answer.prompt_tokens, cached,
                      answer.tokens.size(), answer_rate(std::ssize(answer.tokens), answer.decode_seconds),
                      human_seconds(seconds));
  }
  std::fputs(out.c_str(), stdout);
  std::fflush(stdout);
}

// For a signal handler, which may allocate nothing and free nothing.
std::array<char, 4096> stop_text{};  // what a pipe takes at once when poll says that it has room
std::size_t stop_text_size = 0;
std::atomic<bool> stop_text_waits{false};
constexpr std::array<int, 3> kStops{SIGINT, SIGTERM, SIGHUP};
std::array<struct sigaction, kStops.size()> actions_before{};

// Once; not where nobody reads: a process that is told to end does not wait for a full pipe.
void tell_stop() {
  pollfd out{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (stop_text_waits.exchange(false) && ::poll(&out, 1, /*milliseconds=*/100) == 1 && out.revents == POLLOUT) {
    (void)!::write(STDERR_FILENO, stop_text.data(), stop_text_size);
  }
}

extern "C" void on_stop(int signal, siginfo_t* from, void* context) {
  tell_stop();
  const struct sigaction& before =
      actions_before[static_cast<std::size_t>(std::find(kStops.begin(), kStops.end(), signal) - kStops.begin())];
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, from, context);  // of the rank's guardian; what it raises comes when this one returns
  } else {
    ::sigaction(signal, &before, nullptr);
    ::raise(signal);  // likewise
  }
}

// While it lives, a signal that stops the leader's process, also the launcher's after another rank's end, is told with
// what was not lost. What is ignored stays so.
class StopNote {
 public:
  explicit StopNote(const std::filesystem::path& output) {
    const auto written = fmt::format_to_n(
        stop_text.begin(), stop_text.size(),
        "zoetrope batch: stopped; answered lines are kept in {}: the same command goes on from there\n",
        output.string());
    stop_text_size = std::min(written.size, stop_text.size());
    stop_text_waits = true;
    for (std::size_t at = 0; at < kStops.size(); ++at) {
      struct sigaction action {};
      action.sa_sigaction = on_stop;
      action.sa_flags = SA_SIGINFO;
      for (const int other : kStops) {
        sigaddset(&action.sa_mask, other);
      }
      ::sigaction(kStops[at], nullptr, &actions_before[at]);
      if (actions_before[at].sa_handler != SIG_IGN) {
        ::sigaction(kStops[at], &action, nullptr);
      }
    }
  }
  StopNote(const StopNote&) = delete;
  StopNote& operator=(const StopNote&) = delete;
  ~StopNote() {
    stop_text_waits = false;
    for (std::size_t at = 0; at < kStops.size(); ++at) {
      ::sigaction(kStops[at], &actions_before[at], nullptr);
    }
  }
};

// A failure of the job ends the batch as a signal does; one of its files (Radius::kStartup) says itself what to do.
BatchCounts run_noted(BatchJob& job, Engine& engine, bool leader) {
  try {
    return job.run(engine, leader);
  } catch (const Error& error) {
    if (error.radius() == Radius::kCluster) {
      tell_stop();
    }
    throw;
  } catch (const std::exception&) {
    tell_stop();
    throw;
  }
}

}  // namespace

int run_batch(const RunArguments& run, const BatchArguments& batch) {
  return with_ranks(run, [&](Ranks& ranks, int threads) {
    const std::unique_ptr<Engine> loaded = load_engine(run, ranks, threads, ranks.leader());
    Engine& engine = *loaded;
    std::mutex printing;
    CompletionContext context;
    context.model = model_name(run);
    BatchSettings settings;
    settings.input = batch.input;
    settings.output = batch.output;
    settings.retry_errors = batch.retry_errors;
    settings.prompts_ahead += std::int64_t{run.sequences} * ranks.layout.ring;  // beyond those that can run
    std::optional<StopNote> stop_note;
    if (std::error_code none; ranks.leader() && (!std::filesystem::exists(batch.output, none) ||
                                                 std::filesystem::is_regular_file(batch.output, none))) {
      stop_note.emplace(batch.output);  // a pipe keeps nothing
    }
    BatchJob job(settings, context, [&](const BatchCounts&, const BatchAnswer& line) {
      const std::lock_guard lock(printing);
      print_answer(line);
    });
    const auto started = std::chrono::steady_clock::now();
    const BatchCounts counts = run_noted(job, engine, ranks.leader());
    if (ranks.leader()) {
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
      std::fputs(
          fmt::format(
              "{} lines: {} answered, {} failed, {} kept from an earlier run; {} prompt tokens ({} cached: computed "
              "for an earlier line) and {} answer tokens in {}: {:.0f} tokens computed a second; {}\n",
              counts.lines, counts.answered, counts.failed, counts.kept, counts.prompt_tokens, counts.cached_tokens,
              counts.completion_tokens, human_seconds(seconds),
              static_cast<double>(counts.prompt_tokens - counts.cached_tokens + counts.completion_tokens) / seconds,
              engine.described())
              .c_str(),
          stderr);
    }
    return 0;
  });
}

}  // namespace zoetrope
