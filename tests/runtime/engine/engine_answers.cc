#include "tests/runtime/engine/engine_answers.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <mutex>

#include "tests/source_folder.h"

namespace zoetrope::test {

std::filesystem::path models() { return source_folder() / "models"; }

Questions film_questions() {
  const auto film = [](const std::string& file, const std::string& text, const std::string& more = "") {
    return R"({"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":")" + file +
           R"("}},{"type":"text","text":")" + text + R"("}]}],"max_tokens":24,"logprobs":true)" + more + "}";
  };
  return {
      {"when", film("film-20s.mp4", "When does the green circle appear?")},
      {"sampled", film("film-30s.mp4", "What happens in the video?", R"(,"temperature":1.3,"seed":5,"top_p":0.95)")},
      {"picture",
       R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"picture-2.png"}},{"type":"text","text":"Describe the picture."}]}],"max_tokens":24,"logprobs":true})"},
      {"talk", R"({"messages":[{"role":"user","content":"Who are you?"}],"max_tokens":24,"logprobs":true})"},
      {"second", film("film-45s.mp4", "What appears first?", R"(,"mm_processor_kwargs":{"max_frames":21})")}};
}

Questions questions_about_films() {
  Questions questions;
  const auto ask = [&](const std::string& name, const std::string& medium, const std::string& text,
                       const std::string& more = "") {
    questions[name] = R"({"messages":[{"role":"user","content":[)" + medium + R"(,{"type":"text","text":")" + text +
                      R"("}]}],"max_tokens":16,"logprobs":true)" + more + "}";
  };
  const std::string film = R"({"type":"video_url","video_url":{"url":"film-45s.mp4"}})",
                    other = R"({"type":"video_url","video_url":{"url":"film-30s.mp4"}})",
                    picture = R"({"type":"image_url","image_url":{"url":"picture-2.png"}})";
  ask("a first", film, "What appears first?");
  ask("b last", film, "What appears last?");
  ask("c other film", other, "What appears last?");
  ask("d sampled", film, "What happens in the video?", R"(,"temperature":1.3,"seed":5,"top_p":0.95)");
  ask("e other frames", film, "What appears first?", R"(,"mm_processor_kwargs":{"fps":1})");
  ask("f film and picture", film + "," + picture, "Describe the picture.");
  ask("g the first again", film, "What appears first?");
  ask("h other film again", other, "What appears first?");
  return questions;
}

Answers ask_all(Engine& engine, const Questions& questions) {
  Answers answers;
  std::mutex mutex;
  for (const auto& [name, text] : questions) {
    const json::Value body = json::parse(text, {name, Radius::kRequest});
    ChatRequest request = read_chat_request(json::Fields(body, {name, Radius::kRequest}), name, models() / "samples",
                                            engine.generation());
    Prompt prompt = engine.prompt_writer().write(request);
    RequestCallbacks callbacks;
    callbacks.event = [&, name = name](const TokenEvent& event) {
      const std::lock_guard lock(mutex);
      answers[name].streamed += event.text;
    };
    callbacks.done = [&, name = name](Answer answer) {
      const std::lock_guard lock(mutex);
      Told& told = answers[name];
      told.text = answer.text;
      told.error = answer.error;
      told.reason = answer.reason;
      told.media = answer.media;
      told.prompt_tokens = answer.prompt_tokens;
      told.cached_tokens = answer.cached_tokens;
      told.members = answer.members;
      told.growths = answer.growths;
      for (const Sampled& sampled : answer.tokens) {
        told.tokens.push_back(sampled.token);
        told.logprobs.push_back(sampled.logprob);
      }
    };
    engine.submit(std::move(request), std::move(prompt), std::move(callbacks));
  }
  engine.finish();
  engine.run();
  return answers;
}

EngineSettings settings(std::int64_t chunk, int threads, Precision precision) {
  EngineSettings s;
  s.threads = threads;
  s.chunk_tokens_max = chunk;
  s.sequences_max = 8;
  s.precision = precision;
  s.kv_bytes_per_rank = 64 << 20;
  return s;
}

Answers over(const Layout& layout, const EngineSettings& how, const Questions& questions,
             const std::vector<std::string>& hosts) {
  Answers answers;
  run_ranks(layout, [&](Ranks& ranks) {
    if (!hosts.empty()) {
      ranks.host_name = hosts.at(static_cast<std::size_t>(ranks.place.rank));
    }
    Engine engine(models() / "lantern-moe", ranks, how, {});
    if (ranks.leader()) {
      answers = ask_all(engine, questions);
    } else {
      engine.run();
    }
  });
  return answers;
}

void expect_equal(const Answers& a, const Answers& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (const auto& [name, told] : a) {
    const Told& other = b.at(name);
    EXPECT_EQ(told.error, "") << what << ' ' << name;
    EXPECT_EQ(told.tokens, other.tokens) << what << ' ' << name;
    ASSERT_EQ(told.logprobs.size(), other.logprobs.size());
    EXPECT_EQ(std::memcmp(told.logprobs.data(), other.logprobs.data(), told.logprobs.size() * sizeof(float)), 0)
        << what << ' ' << name;
    EXPECT_EQ(told.streamed, told.text);
  }
}

std::filesystem::path scratch(const std::string& name) {
  return std::filesystem::temp_directory_path() / ("zoetrope-engine-" + name + "." + std::to_string(::getpid()));
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace zoetrope::test
