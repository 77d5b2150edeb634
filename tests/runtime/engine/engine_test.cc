// The engine on the bundled checkpoint with real films: what it answers, what it refuses; failures stay with their
// request.
#include "runtime/engine/engine.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <set>
#include <thread>

#include "monitoring/error.h"
#include "tests/runtime/engine/engine_answers.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

TEST(Engine, AnswersWhatTheReferenceAnswers) {
  const Answers answers = over({}, settings(), film_questions());
  EXPECT_EQ(answers.at("when").text, "The green circle appears at 13.6 seconds.");
  EXPECT_EQ(answers.at("when").reason, FinishReason::kStop);
  EXPECT_EQ(answers.at("when").media.at(0).frames_used, 40);
  EXPECT_EQ(answers.at("second").media.at(0).frames_used, 21);
}

// Threads that the caller starts beside the engine inherit its environment: a denormal number stays one there.
TEST(Engine, LeavesTheCallersArithmeticAsItWas) {
  std::thread([] {
    Ranks ranks = self_ranks();
    Engine engine(models() / "lantern-moe", ranks, settings(), {});
    const volatile double denormal = 0x1p-1060;
    EXPECT_NE(denormal * 2, 0.0);
    EXPECT_EQ(ask_all(engine, {{"talk", film_questions().at("talk")}}).at("talk").error, "");
    EXPECT_NE(denormal * 2, 0.0);
  }).join();
}

TEST(Engine, ASeedDrawsTheSameAnswerAndAnotherSeedAnother) {
  Questions questions;
  for (int seed = 0; seed < 6; ++seed) {
    questions["seed " + std::to_string(seed)] =
        R"({"messages":[{"role":"user","content":"Hello!"}],"max_tokens":20,"temperature":2,"seed":)" +
        std::to_string(seed) + "}";
  }
  const Answers first = over({}, settings(), questions), again = over({}, settings(), questions);
  std::set<std::vector<std::int32_t>> different;
  for (const auto& [name, told] : first) {
    EXPECT_EQ(told.tokens, again.at(name).tokens);
    different.insert(told.tokens);
  }
  EXPECT_GT(different.size(), 1U);
}

TEST(Engine, StopStringsAndLengthsEndAnAnswer) {
  const Answers answers = over({}, settings(), {
      {"stop", R"({"messages":[{"role":"user","content":"What can you do?"}],"stop":["video"],"max_tokens":60})"},
      {"length", R"({"messages":[{"role":"user","content":"What can you do?"}],"max_tokens":3})"}});
  EXPECT_EQ(answers.at("stop").reason, FinishReason::kStop);
  EXPECT_EQ(answers.at("stop").text.find("video"), std::string::npos);
  EXPECT_TRUE(answers.at("stop").text.ends_with("appears in a ")) << answers.at("stop").text;
  EXPECT_EQ(answers.at("length").reason, FinishReason::kLength);
  EXPECT_EQ(answers.at("length").tokens.size(), 3U);
}

TEST(Engine, WhatCanNeverRunIsRefusedWithTheNumbers) {
  EngineSettings small = settings();
  small.kv_bytes_per_rank = 2 << 20;
  const Answers answers = over({}, small, {
      {"large", R"({"messages":[{"role":"user","content":"Hello!"}],"max_tokens":100000})"},
      {"small", R"({"messages":[{"role":"user","content":"Hello!"}],"max_tokens":5})"}});
  EXPECT_NE(answers.at("large").error.find("391 pages"), std::string::npos) << answers.at("large").error;
  EXPECT_NE(answers.at("large").error.find("at most 5 pages"), std::string::npos) << answers.at("large").error;
  EXPECT_EQ(answers.at("small").error, "");
}

// Logits that are no numbers fail the request that has them, not the engine.
TEST(Engine, LogitsThatAreNoNumbersFailTheirRequest) {
  const fs::path folder = fs::temp_directory_path() / ("zoetrope-engine-nan-" + std::to_string(::getpid()));
  fs::copy(models() / "lantern-moe", folder);
  {
    std::fstream file(folder / "model.safetensors", std::ios::binary | std::ios::in | std::ios::out);
    std::uint64_t length = 0;
    file.read(reinterpret_cast<char*>(&length), sizeof(length));
    std::string header(length, ' ');
    file.read(header.data(), static_cast<std::streamsize>(length));
    const std::size_t named = header.find("\"model.language_model.norm.weight\"");
    const std::size_t offsets = header.find("\"data_offsets\"", named);
    ASSERT_NE(offsets, std::string::npos);
    const std::uint64_t first = std::stoull(header.substr(header.find('[', offsets) + 1));
    const std::uint16_t not_a_number = 0x7fc0;
    file.seekp(static_cast<std::streamoff>(8 + length + first));
    file.write(reinterpret_cast<const char*>(&not_a_number), sizeof(not_a_number));
  }
  Answers answers;
  run_ranks({.ring = 2, .tp = 1}, [&](Ranks& ranks) {
    Engine engine(folder, ranks, settings(), {});
    if (ranks.leader()) {
      answers = ask_all(engine, {{"one", film_questions().at("talk")}, {"two", film_questions().at("picture")}});
    } else {
      engine.run();
    }
  });
  fs::remove_all(folder);
  for (const char* name : {"one", "two"}) {
    EXPECT_NE(answers.at(name).error, "") << name;
    EXPECT_EQ(answers.at(name).reason, FinishReason::kAborted) << name;
  }
}

// A film that is damaged behind its headers fails its own request, with frame, time and rank; the others are answered.
TEST(Engine, ADamagedFilmFailsOnlyItsRequest) {
  const fs::path folder = fs::temp_directory_path() / ("zoetrope-engine-test-" + std::to_string(::getpid()));
  fs::create_directories(folder);
  {
    std::ifstream in(models() / "samples" / "film-60s.mp4", std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    const std::size_t data = bytes.find("mdat");
    ASSERT_NE(data, std::string::npos);
    for (std::size_t at = data + 60000; at < data + 150000 && at < bytes.size(); ++at) {
      bytes[at] = static_cast<char>(at * 2654435761U >> 13);
    }
    std::ofstream(folder / "damaged.mp4", std::ios::binary) << bytes;
  }
  const Questions questions{
      {"damaged", R"({"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":")" +
                      (folder / "damaged.mp4").string() +
                      R"("}},{"type":"text","text":"What appears first?"}]}],"max_tokens":8})"},
      {"second", R"({"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":")" +
                     (folder / "damaged.mp4").string() +
                     R"("}},{"type":"text","text":"What appears last?"}]}],"max_tokens":8})"},
      {"talk", film_questions().at("talk")}};
  for (const int ring : {2, 4}) {
    for (const std::int64_t stretch : {0, 40}) {  // in one stretch, and behind others that are sound
      EngineSettings how = settings(64, 2);
      how.stretch_tokens = stretch;
      const Answers answers = over({ring, 1}, how, questions);
      const std::string& error = answers.at("damaged").error;
      EXPECT_NE(error.find("damaged.mp4': frame "), std::string::npos) << error;
      EXPECT_NE(error.find(" seconds"), std::string::npos) << error;
      EXPECT_NE(error.find("(rank "), std::string::npos) << error;
      EXPECT_NE(answers.at("second").error.find("damaged.mp4"), std::string::npos)
          << "what was computed on zeros is used for nobody else: " << answers.at("second").error;
      EXPECT_EQ(answers.at("talk").error, "");
      EXPECT_FALSE(answers.at("talk").text.empty());
    }
  }
  fs::remove_all(folder);
}

TEST(Engine, ALayoutThatDoesNotDivideIsRefusedWithTheArithmetic) {
  try {
    over({.ring = 1, .tp = 8}, settings(), {{"talk", film_questions().at("talk")}});
    FAIL() << "8 ranks cannot share 4 heads";
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    EXPECT_NE(std::string(error.what()).find("8"), std::string::npos) << error.what();
  }
  try {
    over({.pp = 7}, settings(), {{"talk", film_questions().at("talk")}});
    FAIL() << "6 layers are no 7 stages";
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    EXPECT_NE(std::string(error.what()).find("6 layers for 7 stages"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace zoetrope::test
