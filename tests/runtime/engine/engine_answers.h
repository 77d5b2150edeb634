// Questions put to the engine on the bundled checkpoint, over ranks that are threads of this process, and their
// answers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"

namespace zoetrope::test {

std::filesystem::path models();

struct Told {
  std::string text;      // of the answer
  std::string streamed;  // of the events
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  std::string error;
  FinishReason reason = FinishReason::kAborted;
  std::vector<MediaReport> media;
  std::int64_t prompt_tokens = 0, cached_tokens = 0;
  int members = 0, growths = 0;
};
using Answers = std::map<std::string, Told>;

// Bodies of chat completions by name.
using Questions = std::map<std::string, std::string>;
Questions film_questions();         // films, a picture and a text
Questions questions_about_films();  // several about the same ones

// Leader: submits all questions, runs until they are answered.
Answers ask_all(Engine& engine, const Questions& questions);
// hosts: [ranks] names of the hosts that the ranks take themselves to be on; empty: all on this one.
Answers over(const Layout& layout, const EngineSettings& how, const Questions& questions,
             const std::vector<std::string>& hosts = {});

EngineSettings settings(std::int64_t chunk = 1024, int threads = 1, Precision precision = Precision::kBf16);

// The same tokens and log-probabilities, bit for bit, and no error.
void expect_equal(const Answers& a, const Answers& b, const std::string& what);

// A file of this process in the folder for temporary ones, and what is in it.
std::filesystem::path scratch(const std::string& name);
std::string text_of(const std::filesystem::path& file);

}  // namespace zoetrope::test
