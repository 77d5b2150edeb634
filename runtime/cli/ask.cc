#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <memory>
#include <optional>
#include <thread>

#include "monitoring/error.h"
#include "runtime/batch/completion.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/cli/terminal.h"

namespace zoetrope {
namespace {

template <typename T>
void put(json::Object& body, std::string_view key, const std::optional<T>& value) {
  if (value) {
    body[key] = *value;
  }
}

// The command line as the body of a chat completion, so that `ask` and `batch` read one language.
json::Object body_of(const AskArguments& ask) {
  json::Array content;
  for (const AskMedium& medium : ask.media) {
    content.push_back(
        json::Object{{"type", medium.video ? "video" : "image"}, {medium.video ? "video" : "image", medium.reference}});
  }
  content.push_back(json::Object{{"type", "text"}, {"text", ask.question}});
  json::Array messages;
  if (!ask.system.empty()) {
    messages.push_back(json::Object{{"role", "system"}, {"content", ask.system}});
  }
  messages.push_back(json::Object{{"role", "user"}, {"content", std::move(content)}});
  json::Object body{{"messages", std::move(messages)}};
  put(body, "max_tokens", ask.max_tokens);
  put(body, "temperature", ask.temperature);
  put(body, "top_k", ask.top_k);
  put(body, "top_p", ask.top_p);
  put(body, "min_p", ask.min_p);
  put(body, "repetition_penalty", ask.repetition_penalty);
  put(body, "presence_penalty", ask.presence_penalty);
  put(body, "frequency_penalty", ask.frequency_penalty);
  put(body, "seed", ask.seed);
  if (!ask.stop.empty()) {
    json::Array stop;
    for (const std::string& text : ask.stop) {
      stop.push_back(json::Value(text));
    }
    body["stop"] = std::move(stop);
  }
  json::Object media;
  put(media, "fps", ask.fps);
  put(media, "num_frames", ask.num_frames);
  put(media, "max_frames", ask.max_frames);
  put(media, "min_pixels", ask.min_pixels);
  put(media, "max_pixels", ask.max_pixels);
  put(media, "total_pixels", ask.total_pixels);
  put(media, "video_start", ask.video_start);
  put(media, "video_end", ask.video_end);
  if (ask.reference_timestamps) {
    media["timestamps"] = "reference";
  }
  if (ask.no_rotate) {
    media["rotate"] = false;
  }
  if (!media.empty()) {
    body["mm_processor_kwargs"] = std::move(media);
  }
  if (ask.add_vision_id) {
    body["chat_template_kwargs"] = json::Object{{"add_vision_id", true}};
  }
  return body;
}

// A value that no request may have is a wrong command line: it is told before anything is loaded, and by its flag.
void check_values(const AskArguments& ask) {
  const json::Object body = body_of(ask);
  try {
    read_chat_request(json::Fields(body, {"ask", Radius::kRequest}), "ask", {}, {});
  } catch (const Error& error) {
    std::string said = error.what();
    for (const std::string_view prefix : {"ask: ", "mm_processor_kwargs."}) {
      said.erase(0, said.starts_with(prefix) ? prefix.size() : 0);
    }
    std::string name = said.substr(0, said.find(':'));
    if (!body.contains(name) &&
        !(body.contains("mm_processor_kwargs") && body.at("mm_processor_kwargs").as_object().contains(name))) {
      throw;  // of a file or of the text
    }
    std::ranges::replace(name, '_', '-');
    throw UsageError("--" + name + said.substr(name.size()));
  }
}

std::string line_of(const MediaReport& report) {
  std::string line =
      report.kind == "image"
          ? fmt::format("{}: {}x{} seen at {}x{}, {} tokens", report.file, report.source_width, report.source_height,
                        report.resized_width, report.resized_height, report.tokens)
          : fmt::format("{}: {} of {} frames ({:.3g} a second, {:.1f} s to {:.1f} s), {}x{} seen at {}x{}, {} tokens",
                        report.file, report.frames_used, report.source_frames, report.fps_used, report.seconds_first,
                        report.seconds_last, report.source_width, report.source_height, report.resized_width,
                        report.resized_height, report.tokens);
  for (const std::string& note : report.notes) {
    line += "; " + note;
  }
  return line;
}

void print_report(const Answer& answer, const Engine& engine, bool seed_matters) {
  std::string out;
  for (const MediaReport& report : answer.media) {
    out += one_line(line_of(report)) + "\n";
  }
  if (!answer.media.empty()) {
    out +=
        fmt::format("frames decoded in {}, of which {} beside other work\n", human_seconds(answer.film_decode_seconds),
                    human_seconds(std::max(0.0, answer.film_decode_seconds - answer.film_wait_seconds)));
  }
  out += fmt::format("{} prompt tokens: encoded in {}, prefilled in {}; {} answer tokens in {} ({:.1f} tokens/s); {}\n",
                     answer.prompt_tokens, human_seconds(answer.encode_seconds), human_seconds(answer.prefill_seconds),
                     answer.tokens.size(), human_seconds(answer.decode_seconds),
                     answer_rate(std::ssize(answer.tokens), answer.decode_seconds), engine.described());
  if (seed_matters) {
    out += fmt::format("seed {}\n", static_cast<std::int64_t>(answer.seed));
  }
  if (answer.reason == FinishReason::kLength) {
    out += "the answer was cut at its longest allowed length (--max-tokens)\n";
  }
  std::fputs(out.c_str(), stderr);
}

void print_json(const Answer& answer, const Engine& engine, const std::string& model) {
  CompletionContext context{model, engine.fingerprint(), engine.prompt_writer().tokenizer,
                            engine.prompt_writer().chat_template->edition() == Edition::kThinking};
  json::Object out = completion("ask", answer, true, context);
  json::Array ids;
  for (const Sampled& sampled : answer.tokens) {
    ids.push_back(sampled.token);
  }
  out["answer"] = answer.text;
  out["token_ids"] = std::move(ids);
  out["encode_s"] = answer.encode_seconds;
  out["prefill_s"] = answer.prefill_seconds;
  out["decode_s"] = answer.decode_seconds;
  out["film_decode_s"] = answer.film_decode_seconds;
  out["film_wait_s"] = answer.film_wait_seconds;
  out["film_cpu_s"] = answer.film_cpu_seconds;
  out["engine"] = engine.described();
  std::fputs((boost::json::serialize(out) + "\n").c_str(), stdout);
}

// The leader's part: look at the media while the engine loop already beats, then submit and wait.
class Asker {
 public:
  Asker(Engine& engine, const AskArguments& ask)
      : engine_(engine), ask_(ask), prefill_("prefill", "tokens", !ask.json) {}

  void submit() {
    try {
      const json::Object body = body_of(ask_);
      ChatRequest request =
          read_chat_request(json::Fields(body, {"ask", Radius::kRequest}), "ask", {}, engine_.generation());
      seed_matters_ = request.sampling.temperature > 0;
      Prompt prompt = engine_.prompt_writer().write(request);
      RequestCallbacks callbacks;
      callbacks.event = [this](const TokenEvent& event) { show(event); };
      callbacks.prefill_progress = [this](std::int64_t done, std::int64_t total) {
        prefill_.update(static_cast<double>(done), static_cast<double>(total));
      };
      callbacks.done = [this](Answer answer) { answer_ = std::move(answer); };
      engine_.submit(std::move(request), std::move(prompt), std::move(callbacks));
    } catch (...) {
      failure_ = std::current_exception();
    }
    engine_.finish();
  }

  int result(const std::string& model) {
    if (failure_) {
      std::rethrow_exception(failure_);
    }
    check(answer_.has_value(), "the engine ended without an answer");
    if (!answer_->error.empty()) {
      throw Error(Radius::kRequest, answer_->error);
    }
    if (ask_.json) {
      print_json(*answer_, engine_, model);
    } else {
      std::fputs("\n", stdout);
      std::fflush(stdout);
      print_report(*answer_, engine_, seed_matters_);
    }
    return 0;
  }

 private:
  void show(const TokenEvent& event) {
    prefill_.finish();
    if (!ask_.json) {
      std::fputs(event.text.c_str(), stdout);
      std::fflush(stdout);
    }
  }

  Engine& engine_;
  const AskArguments& ask_;
  Progress prefill_;
  std::optional<Answer> answer_;
  std::exception_ptr failure_;
  bool seed_matters_ = false;
};

}  // namespace

int run_ask(const RunArguments& run, const AskArguments& ask) {
  check_values(ask);
  return with_ranks(run, [&](Ranks& ranks, int threads) {
    RunArguments alone = run;
    alone.no_prefix_cache = true;  // one question shares with nobody: no digest of its film has to be made
    const std::unique_ptr<Engine> loaded = load_engine(alone, ranks, threads, ranks.leader() && !ask.json);
    Engine& engine = *loaded;
    if (!ranks.leader()) {
      engine.run();
      return 0;
    }
    Asker asker(engine, ask);
    std::thread intake([&] { asker.submit(); });
    try {
      engine.run();
    } catch (...) {
      intake.join();
      throw;
    }
    intake.join();
    return asker.result(model_name(run));
  });
}

}  // namespace zoetrope
