#include "runtime/batch/batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "monitoring/error.h"
#include "monitoring/log.h"
#include "runtime/batch/journal.h"

namespace zoetrope {
namespace {

constexpr const char* kInvalid = "invalid_request";

std::string question_of(const ChatRequest& request) {
  for (auto message = request.messages.rbegin(); message != request.messages.rend(); ++message) {
    const json::Object& object = message->as_object();
    const json::Value* content = object.if_contains("content");
    if (object.at("role") != "user" || content == nullptr || content->is_null()) {
      continue;
    }
    if (content->is_string()) {
      return std::string(content->get_string());
    }
    for (const json::Value& part : content->as_array()) {
      if (const json::Value* text = part.as_object().if_contains("text")) {
        return std::string(text->as_string());
      }
    }
  }
  return "";
}

json::Object error_record(const std::string& id, const std::optional<std::string>& custom_id, std::string_view code,
                          const std::string& message) {
  json::Object record;
  record["id"] = id;
  record["custom_id"] = custom_id ? json::Value(*custom_id) : json::Value(nullptr);
  record["response"] = nullptr;
  record["error"] = json::Object{{"code", code}, {"message", message}};
  return record;
}

}  // namespace

BatchJob::BatchJob(BatchSettings settings, CompletionContext context,
                   std::function<void(const BatchCounts&, const BatchAnswer&)> answered)
    : settings_(std::move(settings)), context_(std::move(context)), answered_(std::move(answered)) {}

namespace {

std::ifstream input_of(const BatchSettings& settings) {
  std::error_code ec;
  std::ifstream input(settings.input, std::ios::binary);
  if (!input || std::filesystem::is_directory(settings.input, ec)) {
    refuse(Radius::kStartup,
           {settings.input.string(),
            std::filesystem::exists(settings.input, ec) ? "something that cannot be read" : "no such file",
            "a file of batch lines", "check --input"});
  }
  return input;
}

// The output, unless it is the input: lines would count as answers, and a last line without an end as a torn one to cut
// away.
const std::filesystem::path& output_of(const BatchSettings& settings) {
  std::error_code ec;
  if (std::filesystem::equivalent(settings.input, settings.output, ec)) {
    refuse(Radius::kStartup, {"--output", settings.output.string() + ", which is the input",
                              "a file of its own for the answers", "name another --output"});
  }
  return settings.output;
}

// Says why a batch takes no more lines while `go_on` of them run. Never throws.
void warn_of(const std::exception_ptr& why, std::ptrdiff_t go_on) {
  try {
    try {
      std::rethrow_exception(why);
    } catch (const std::exception& error) {
      log::warning("no more lines are taken; those that run are answered first",
                   {{"running", go_on}, {"why", error.what()}});
    }
  } catch (...) {  // no memory to say it, or nothing that can be said: result() has it
  }
}

// The leader's side of a batch: reads lines, prepares prompts ahead of the engine, records what comes back.
class Feeder {
 public:
  Feeder(const BatchSettings& settings, const CompletionContext& context, Engine& engine,
         const std::function<void(const BatchCounts&, const BatchAnswer&)>& answered)
      : settings_(settings),
        context_(context),
        engine_(engine),
        answered_(answered),
        input_(input_of(settings)),
        journal_(output_of(settings), settings.retry_errors) {
    if (journal_.torn_bytes() > 0) {
      log::warning("the last record of an earlier run was torn and is answered again",
                   {{"file", settings.output.string()}, {"bytes", journal_.torn_bytes()}});
    }
  }

  // Feeder thread. Never throws: what goes wrong beyond a line is kept for result().
  void feed() {
    try {
      Line line;
      while (!stopped() && next_line(line)) {
        if (++line_number_ == 1 && line.text.starts_with("\xef\xbb\xbf")) {
          line.text.erase(0, 3);  // the byte order mark that some editors put in front of UTF-8
        }
        if (!line.why_cut.empty() || line.text.find_first_not_of(" \t\r") != std::string::npos) {
          take(line);
        }
      }
    } catch (...) {
      stop(std::current_exception());
    }
    engine_.finish();
  }

  BatchCounts result() {
    const std::lock_guard lock(mutex_);
    if (failure_) {
      std::rethrow_exception(failure_);
    }
    return counts_;
  }

  // Takes no more lines; the first reason is kept for result(), or that answers cannot be kept: then those that run are
  // taken back, else they go on.
  void stop(std::exception_ptr why) {
    std::ptrdiff_t go_on = 0;
    {
      const std::lock_guard lock(mutex_);
      if (std::exception_ptr lost = journal_.failure(); lost && !taken_back_) {
        failure_ = std::move(lost);
        taken_back_ = true;
        std::ranges::for_each(running_, [this](RequestId id) { engine_.cancel(id); });
      } else if (!failure_) {
        failure_ = why;
        go_on = std::ssize(running_);
      }
      room_.notify_all();
    }
    if (go_on > 0) {
      warn_of(why, go_on);
    }
  }

  // The engine has ended: nothing runs any more.
  void engine_ended(std::exception_ptr why) {
    const std::lock_guard lock(mutex_);
    if (!failure_) {
      failure_ = std::move(why);
    }
    room_.notify_all();
  }

 private:
  struct Line {
    std::string text;
    std::string why_cut;  // not empty: `text` is not all of it
  };

  // False at the end of the input. A line that is too long, or that there is no memory for, is passed over to its end.
  bool next_line(Line& line) {
    line.text.clear();
    line.why_cut.clear();
    for (bool begun = false;; begun = true) {
      input_.getline(piece_.data(), static_cast<std::streamsize>(piece_.size()));
      if (input_.bad()) {
        refuse(
            Radius::kStartup,
            {settings_.input.string(), fmt::format("a device that fails behind line {}", line_number_),
             "a file that can be read to its end", "copy it to another disk and run again: answered lines are kept"});
      }
      const auto read = static_cast<std::size_t>(input_.gcount());
      const bool goes_on = input_.fail() && !input_.eof() && read + 1 == piece_.size();
      const bool ended = !input_.fail() && !input_.eof();  // by its newline, which is counted
      if (line.why_cut.empty()) {
        try {
          line.text.append(piece_.data(), read - (ended ? 1 : 0));
        } catch (const std::bad_alloc&) {
          line.why_cut = "no memory for its text; make it smaller or give the process more memory";
        }
        if (line.text.size() > settings_.line_bytes_max) {
          line.why_cut = fmt::format("found more than {0} bytes, expected at most {0}; name the film by its path",
                                     settings_.line_bytes_max);
        }
        if (!line.why_cut.empty()) {
          std::string().swap(line.text);  // its memory too
        }
      }
      if (!goes_on) {
        return ended || read > 0 || begun;
      }
      input_.clear();
    }
  }

  void take(Line& line) {
    const std::string where = one_line(fmt::format("{} line {}", settings_.input.filename().string(), line_number_));
    const std::string id = fmt::format("batch_req_{}", line_number_);
    std::optional<std::string> custom_id;
    std::string_view code = kInvalid;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.lines;
    }
    try {
      if (!line.why_cut.empty()) {
        throw Error(Radius::kRequest, where + ": " + line.why_cut);
      }
      json::Value value = json::parse(line.text, {where, Radius::kRequest});
      const json::Fields fields(value, {where, Radius::kRequest});
      custom_id = fields.text("custom_id");
      const bool repeated = !seen_.insert(*custom_id).second;
      if (!repeated && journal_.answered().contains(*custom_id)) {
        const std::lock_guard lock(mutex_);
        ++counts_.kept;
        return;
      }
      if (repeated) {
        code = kRepeatedId;
        fields.refuse("custom_id", zoetrope::quoted(*custom_id) + ", which stands on an earlier line",
                      "an id of its own for every line", "rename it");
      }
      if (const std::string url = fields.text_or("url", "/v1/chat/completions"); url != "/v1/chat/completions") {
        fields.refuse("url", zoetrope::quoted(url), "'/v1/chat/completions'", "send chat completions");
      }
      if (const std::string method = fields.text_or("method", "POST"); method != "POST") {
        fields.refuse("method", zoetrope::quoted(method), "'POST'", "correct the line");
      }
      ChatRequest request =
          read_chat_request(fields.child("body"), *custom_id, settings_.input.parent_path(), engine_.generation());
      std::string().swap(line.text);  // a film as a data URL stands in it, and in what was parsed
      value = nullptr;
      submit(std::move(request), id);
    } catch (const Error& error) {
      if (error.radius() != Radius::kRequest) {
        throw;
      }
      record_failure(id, custom_id, code, "", error.what());
    } catch (const std::bad_alloc&) {
      record_failure(
          id, custom_id, code, "",
          where +
              ": no memory for its text and media beside what runs; make them smaller or give the process more memory");
    } catch (const std::exception& error) {  // a fault of ours, which costs this line and no other
      record_failure(id, custom_id, code, "", one_line(where + ": " + error.what()));
    }
  }

  void submit(ChatRequest request, const std::string& id) {
    Prompt prompt = engine_.prompt_writer().write(request);
    const std::string custom_id = request.name, question = question_of(request);
    json::Array().swap(request.messages);  // they are in the prompt
    const bool logprobs = request.logprobs;
    std::int64_t media_bytes = 0;
    for (const Medium& medium : prompt.media) {
      for (const MediaSource& source : medium.sources) {
        media_bytes += source.bytes ? std::ssize(*source.bytes) : 0;
      }
    }
    const auto running = std::make_shared<RequestId>();
    RequestCallbacks callbacks;
    callbacks.done = [this, running, media_bytes, id, custom_id, question, logprobs](Answer answer) {
      finished(*running, media_bytes, id, custom_id, question, logprobs, answer);
    };
    std::unique_lock lock(mutex_);  // until the engine's number is known: finished() waits for it
    room_.wait(lock, [&] {
      return failure_ ||
             (std::ssize(running_) < settings_.prompts_ahead &&
              (media_bytes == 0 || media_bytes_ == 0 || media_bytes_ + media_bytes <= settings_.media_bytes_ahead));
    });
    if (failure_) {
      return;
    }
    running_.reserve(running_.size() + 1);
    *running = engine_.submit(std::move(request), std::move(prompt), std::move(callbacks));
    running_.push_back(*running);
    media_bytes_ += media_bytes;
  }

  // Engine thread.
  void finished(const RequestId& running, std::int64_t media_bytes, const std::string& id, const std::string& custom_id,
                const std::string& question, bool logprobs, const Answer& answer) {
    {
      const std::lock_guard lock(mutex_);
      std::erase(running_, running);
    }
    try {
      if (answer.error.empty() && answer.reason == FinishReason::kAborted) {
        // stop() took it back: it stands unanswered, and the next run answers it.
      } else if (!answer.error.empty()) {
        record_failure(id, custom_id, kInvalid, question, answer.error);
      } else {
        json::Object record;
        record["id"] = id;
        record["custom_id"] = custom_id;
        record["response"] = json::Object{{"status_code", 200},
                                          {"request_id", id},
                                          {"body", completion("chatcmpl-" + id, answer, logprobs, context_)}};
        record["error"] = nullptr;
        journal_.append(record);
        BatchCounts now;
        {
          const std::lock_guard lock(mutex_);
          ++counts_.answered;
          counts_.prompt_tokens += answer.prompt_tokens;
          counts_.cached_tokens += answer.cached_tokens;
          counts_.completion_tokens += static_cast<std::int64_t>(answer.tokens.size());
          now = counts_;
        }
        answered_(now, {custom_id, question, &answer});
      }
    } catch (...) {
      stop(std::current_exception());
    }
    const std::lock_guard lock(mutex_);
    media_bytes_ -= media_bytes;
    room_.notify_one();
  }

  void record_failure(const std::string& id, const std::optional<std::string>& custom_id, std::string_view code,
                      const std::string& question, const std::string& why) {
    if ((!custom_id || code == kRepeatedId) && journal_.failed_lines().contains(id)) {
      const std::lock_guard lock(mutex_);
      ++counts_.kept;
      return;
    }
    journal_.append(error_record(id, custom_id, code, why));
    Answer answer;
    answer.error = why;
    BatchCounts now;
    {
      const std::lock_guard lock(mutex_);
      ++counts_.failed;
      now = counts_;
    }
    answered_(now, {custom_id.value_or(id), question, &answer});
  }

  bool stopped() {
    const std::lock_guard lock(mutex_);
    return failure_ != nullptr;
  }
  const BatchSettings& settings_;
  const CompletionContext& context_;
  Engine& engine_;
  const std::function<void(const BatchCounts&, const BatchAnswer&)>& answered_;
  std::ifstream input_;
  std::vector<char> piece_ = std::vector<char>(std::size_t{1} << 16);  // of the input; feeder thread
  Journal journal_;
  std::set<std::string> seen_;    // feeder thread
  std::int64_t line_number_ = 0;  // feeder thread
  std::mutex mutex_;              // guards what follows; `answered_` is called outside it, from two threads
  std::condition_variable room_;
  std::vector<RequestId> running_;
  std::int64_t media_bytes_ = 0;  // of those that run, in data URLs
  BatchCounts counts_;
  std::exception_ptr failure_;
  bool taken_back_ = false;  // those that ran when answers could no longer be kept
};

}  // namespace

BatchCounts BatchJob::run(Engine& engine, bool leader) {
  if (!leader) {
    engine.run();
    return {};
  }
  context_.fingerprint = engine.fingerprint();
  context_.tokenizer = engine.prompt_writer().tokenizer;
  context_.thinking = engine.prompt_writer().chat_template->edition() == Edition::kThinking;
  Feeder feeder(settings_, context_, engine, answered_);
  std::thread thread([&] { feeder.feed(); });
  try {
    engine.run();
  } catch (...) {
    feeder.engine_ended(std::current_exception());
    thread.join();
    throw;
  }
  thread.join();
  return feeder.result();
}

}  // namespace zoetrope
