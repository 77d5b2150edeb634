#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <iterator>
#include <memory>
#include <mutex>

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

}  // namespace

int run_batch(const RunArguments& run, const BatchArguments& batch) {
  return with_ranks(run, [&](Ranks& ranks, int threads) {
    const std::unique_ptr<Engine> loaded = load_engine(run, ranks, threads, ranks.leader());
    Engine& engine = *loaded;
    std::mutex printing;
    CompletionContext context;
    context.model = model_folder(run).filename().string();
    BatchSettings settings;
    settings.input = batch.input;
    settings.output = batch.output;
    settings.retry_errors = batch.retry_errors;
    BatchJob job(settings, context, [&](const BatchCounts&, const BatchAnswer& line) {
      const std::lock_guard lock(printing);
      print_answer(line);
    });
    const auto started = std::chrono::steady_clock::now();
    const BatchCounts counts = job.run(engine, ranks.leader());
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
