// A batch file through the engine: lines in, answers out as they finish, nothing lost, nothing done twice.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "runtime/batch/completion.h"
#include "runtime/engine/engine.h"

namespace zoetrope {

struct BatchSettings {
  std::filesystem::path input;  // OpenAI batch lines: {"custom_id", "method", "url", "body"}
  std::filesystem::path output;
  bool retry_errors = false;
  std::int64_t prompts_ahead = 128;  // >= 1; prompts prepared or running at once: bounds memory
  // Bytes of media that these hold from data URLs, decoded; one prompt may have more where no other has any, and
  // one more waits beside them. A step that starts some copies theirs to the other ranks.
  std::int64_t media_bytes_ahead = std::int64_t{4} << 30;
  std::size_t line_bytes_max = std::size_t{1} << 30;  // a film as a data URL fits
};

// What a run did, told while it runs.
struct BatchCounts {
  std::int64_t lines = 0;     // in the input
  std::int64_t kept = 0;      // answered by an earlier run
  std::int64_t answered = 0;  // by this run
  std::int64_t failed = 0;    // recorded as errors by this run
  std::int64_t prompt_tokens = 0, completion_tokens = 0;
  std::int64_t cached_tokens = 0;  // of prompt_tokens: computed for another line before
};

// One answered (or failed: error set) line, after it was recorded.
struct BatchAnswer {
  std::string custom_id;
  std::string question;  // the last text of the last user message
  const Answer* answer = nullptr;
};

// Leader: feeds the engine from a thread of its own while this thread runs it; followers only run it.
// Error(kStartup): an input that cannot be read, an output that cannot be written.
class BatchJob {
 public:
  BatchJob(BatchSettings settings, CompletionContext context,
           std::function<void(const BatchCounts&, const BatchAnswer&)> answered);
  BatchCounts run(Engine& engine, bool leader);

 private:
  BatchSettings settings_;
  CompletionContext context_;
  std::function<void(const BatchCounts&, const BatchAnswer&)> answered_;
};

}  // namespace zoetrope
