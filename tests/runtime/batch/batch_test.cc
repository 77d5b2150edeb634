// Batch files through the engine on the bundled checkpoint: every line is recorded once, bad lines as errors, a rerun
// goes on.
#include "runtime/batch/batch.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "tests/source_folder.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

fs::path models() { return test::source_folder() / "models"; }

class BatchFolder : public testing::Test {
 protected:
  fs::path folder = fs::temp_directory_path() / ("zoetrope-batch-" + std::to_string(::getpid()));
  void SetUp() override {
    fs::remove_all(folder);
    fs::create_directories(folder);
    fs::copy(models() / "samples" / "picture-1.png", folder);
  }
  void TearDown() override { fs::remove_all(folder); }

  BatchSettings how{.input = folder / "in.jsonl", .output = folder / "out.jsonl", .prompts_ahead = 2};

  void write(const std::string& lines) { std::ofstream(folder / "in.jsonl", std::ios::binary) << lines; }

  std::function<void(const BatchAnswer&)> answered = [](const BatchAnswer&) {};

  BatchCounts run(bool retry_errors = false, Layout layout = {}) {
    BatchCounts counts;
    run_ranks(layout, [&](Ranks& ranks) {
      EngineSettings settings;
      settings.threads = 1;
      settings.kv_bytes_per_rank = 16 << 20;
      settings.sequences_max = 4;
      Engine engine(models() / "lantern-moe", ranks, settings, {});
      BatchSettings batch = how;
      batch.retry_errors = retry_errors;
      CompletionContext context;
      context.model = "lantern-moe";
      const BatchCounts own = BatchJob(batch, context, [this](const BatchCounts&, const BatchAnswer& answer) {
                                answered(answer);
                              }).run(engine, ranks.leader());
      if (ranks.leader()) {
        counts = own;
      }
    });
    return counts;
  }

  std::map<std::string, json::Object> records() {
    std::map<std::string, json::Object> out;
    std::ifstream in(folder / "out.jsonl");
    for (std::string line; std::getline(in, line);) {
      json::Object record = json::parse(line, {"out", Radius::kRequest}).as_object();
      const std::string id = record.at("custom_id").is_string()
                                 ? std::string(record.at("custom_id").as_string())
                                 : fmt::format("line {}", std::string_view(record.at("id").as_string()));
      EXPECT_TRUE(out.emplace(id, std::move(record)).second) << id << " was recorded twice";
    }
    return out;
  }
};

std::string line(const std::string& id, const std::string& content, const std::string& more = "", int tokens = 8) {
  return fmt::format(
      R"({{"custom_id":"{}","method":"POST","url":"/v1/chat/completions","body":{{"messages":[{{"role":"user","content":{}}}],"max_tokens":{}{}}}}})"
      "\n",
      id, content, tokens, more);
}

std::string message_of(const json::Object& record) {
  return std::string(record.at("response")
                         .as_object()
                         .at("body")
                         .as_object()
                         .at("choices")
                         .as_array()
                         .at(0)
                         .as_object()
                         .at("message")
                         .as_object()
                         .at("content")
                         .as_string());
}

TEST_F(BatchFolder, BadLinesAreRecordedAndTheRestGoesOn) {
  write(
      "\xef\xbb\xbf" + line("good", "\"Hello!\"") + "this is not JSON\n" +
      line("missing", R"([{"type":"image_url","image_url":{"url":"gone.png"}}])") +
      line("unknown", "\"x\"", R"(,"temprature":1)") + "\n" + line("good", "\"again\"") +
      line("role", "\"x\"", R"(,"n":2)") +
      line(
          "picture",
          R"([{"type":"image_url","image_url":{"url":"picture-1.png"}},{"type":"text","text":"How many shapes are in the picture?"}])"));
  const BatchCounts counts = run();
  EXPECT_EQ(counts.lines, 7);
  EXPECT_EQ(counts.answered, 2);
  EXPECT_EQ(counts.failed, 5);
  std::ifstream in(folder / "out.jsonl");
  std::map<std::string, int> errors, answers;
  std::string all;
  for (std::string text; std::getline(in, text);) {
    all += text + "\n";
    const json::Object record = json::parse(text, {"out", Radius::kRequest}).as_object();
    const std::string id = record.at("custom_id").is_null() ? "" : std::string(record.at("custom_id").as_string());
    ++(record.at("error").is_null() ? answers : errors)[id];
  }
  EXPECT_EQ(answers, (std::map<std::string, int>{{"good", 1}, {"picture", 1}}));
  EXPECT_EQ(errors, (std::map<std::string, int>{{"", 1}, {"good", 1}, {"missing", 1}, {"role", 1}, {"unknown", 1}}));
  EXPECT_NE(all.find("gone.png"), std::string::npos);
  EXPECT_NE(all.find("perhaps 'temperature'"), std::string::npos) << all;
  EXPECT_NE(all.find("line 2"), std::string::npos);
}

TEST_F(BatchFolder, ARerunAnswersOnlyWhatIsMissing) {
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    lines += line(fmt::format("q{}", i), "\"Who are you?\"");
  }
  write(lines);
  EXPECT_EQ(run().answered, 12);
  const auto first = records();
  // Cut the output in the middle of a record, as a power loss would.
  const auto size = fs::file_size(folder / "out.jsonl");
  fs::resize_file(folder / "out.jsonl", size / 2 + 7);
  const BatchCounts counts = run(false, {2, 1});
  EXPECT_EQ(counts.kept + counts.answered, 12);
  EXPECT_GT(counts.kept, 3);
  EXPECT_GT(counts.answered, 3);
  const auto second = records();
  ASSERT_EQ(second.size(), 12U);
  for (const auto& [id, record] : first) {
    EXPECT_EQ(message_of(record), message_of(second.at(id)));
  }
  EXPECT_EQ(run().answered, 0);
}

TEST_F(BatchFolder, CountsWhatEarlierLinesHadComputed) {
  const std::string same(1500, 'x');  // more than a page of KV, and alike in all lines
  std::string lines;
  for (int i = 0; i < 6; ++i) {
    lines += line(fmt::format("q{}", i), fmt::format("\"{} {}?\"", same, i));
  }
  write(lines);
  const BatchCounts counts = run();
  EXPECT_EQ(counts.answered, 6);
  std::int64_t cached = 0;
  for (const auto& [id, record] : records()) {
    const json::Object& usage = record.at("response").as_object().at("body").as_object().at("usage").as_object();
    cached += usage.at("prompt_tokens_details").as_object().at("cached_tokens").as_int64();
  }
  EXPECT_GT(counts.cached_tokens, 0);
  EXPECT_EQ(counts.cached_tokens, cached);
  EXPECT_LT(counts.cached_tokens, counts.prompt_tokens);
}

TEST_F(BatchFolder, ARerunLosesNoAnswerToARepeatedIdAndRecordsNoBadLineTwice) {
  write(line("a", "\"Who are you?\"") + line("a", "\"Who else?\"") + "this is not JSON\n");
  EXPECT_EQ(run().failed, 2);
  std::string kept;  // as a run leaves it that is killed before its first answer: errors of lines are recorded at once
  std::ifstream in(folder / "out.jsonl");
  for (std::string text; std::getline(in, text);) {
    kept += text.find("\"error\":null") == std::string::npos ? text + "\n" : "";
  }
  std::ofstream(folder / "out.jsonl", std::ios::binary) << kept;
  const BatchCounts counts = run();
  EXPECT_EQ(counts.answered, 1);
  EXPECT_EQ(counts.failed, 0);
  EXPECT_EQ(counts.kept, 2);
  const BatchCounts again = run();
  EXPECT_EQ(again.kept, 3);
  EXPECT_EQ(again.answered + again.failed, 0);
}

TEST_F(BatchFolder, ErrorsAreKeptUnlessTheyAreToBeRetried) {
  write(line("later",
             R"([{"type":"image_url","image_url":{"url":"later.png"}},{"type":"text","text":"What colour is it?"}])"));
  EXPECT_EQ(run().failed, 1);
  fs::copy(folder / "picture-1.png", folder / "later.png");
  EXPECT_EQ(run().kept, 1);
  EXPECT_EQ(run(true).answered, 1);
  EXPECT_TRUE(records().at("later").at("error").is_null());
}

TEST_F(BatchFolder, UsageAndMediaAreReportedWithTheAnswer) {
  write(line(
      "p",
      R"([{"type":"image_url","image_url":{"url":"picture-1.png"}},{"type":"text","text":"Describe the picture."}])",
      R"(,"logprobs":true,"top_logprobs":3)"));
  run();
  const json::Object body = records().at("p").at("response").as_object().at("body").as_object();
  const json::Object usage = body.at("usage").as_object();
  EXPECT_EQ(usage.at("total_tokens").as_int64(),
            usage.at("prompt_tokens").as_int64() + usage.at("completion_tokens").as_int64());
  EXPECT_EQ(usage.at("prompt_tokens_details").as_object().at("image_tokens").as_int64(), 12);
  EXPECT_EQ(body.at("media").as_array().at(0).as_object().at("size_used"), (json::Array{128, 96}));
  EXPECT_FALSE(body.at("system_fingerprint").as_string().empty());
  const json::Object choice = body.at("choices").as_array().at(0).as_object();
  EXPECT_EQ(choice.at("finish_reason"), "length");
  const json::Array content = choice.at("logprobs").as_object().at("content").as_array();
  ASSERT_EQ(content.size(), 8U);
  for (const json::Value& token : content) {
    EXPECT_LE(token.as_object().at("logprob").as_double(), 0.0);
    EXPECT_EQ(token.as_object().at("top_logprobs").as_array().size(), 3U);
  }
}

TEST_F(BatchFolder, ContentThatIsNeitherTextNorAListCostsItsLineOnly) {
  write(line("object", R"({"text":"hi"})") + line("number", "7") + line("null", "null") +
        line("good", "\"Who are you?\""));
  const BatchCounts counts = run();
  EXPECT_EQ(counts.answered, 1);
  EXPECT_EQ(counts.failed, 3);
  const std::string said(records().at("object").at("error").as_object().at("message").as_string());
  EXPECT_NE(said.find("messages[0].content: found an object"), std::string::npos) << said;
}

TEST_F(BatchFolder, ALineBeyondTheLimitIsPassedOverAndTheNextOneRead) {
  how.line_bytes_max = 200000;  // several pieces of the reader
  const std::string last = line("last", "\"Who are you?\"");
  write(line("long", "\"" + std::string(300000, 'x') + "\"") + line("good", "\"Who are you?\"") +
        std::string(65536, ' ') + "\n" + std::string(65535, ' ') + "\n" + last.substr(0, last.size() - 1));
  const BatchCounts counts = run();
  EXPECT_EQ(counts.answered, 2);
  EXPECT_EQ(counts.failed, 1);
  const auto all = records();
  const std::string said(all.at("line batch_req_1").at("error").as_object().at("message").as_string());
  EXPECT_NE(said.find("line 1: found more than 200000 bytes"), std::string::npos) << said;
  EXPECT_EQ(std::string(all.at("last").at("id").as_string()), "batch_req_5");
  EXPECT_EQ(run().kept, 3);
}

TEST_F(BatchFolder, ARepeatedIdIsRecordedAlsoWhereAnEarlierRunAnsweredTheFirst) {
  write(line("a", "\"Who are you?\""));
  EXPECT_EQ(run().answered, 1);
  write(line("a", "\"Who are you?\"") + line("a", "\"Who else?\""));  // the second was not read by then
  const BatchCounts counts = run();
  EXPECT_EQ(counts.kept, 1);
  EXPECT_EQ(counts.failed, 1);
  EXPECT_EQ(run().kept, 2);
}

// What could not be kept is not computed: where the disk is full, those that run are taken back.
TEST_F(BatchFolder, AFullDiskEndsTheBatchAtOnceAndTheNextRunAnswersAll) {
  const std::string more = R"(,"ignore_eos":true,"max_completion_tokens":3000)";
  std::string lines = line("short", "\"Who are you?\"");
  for (const char* id : {"a", "b", "c"}) {
    lines += fmt::format(R"({{"custom_id":"{}","body":{{"messages":[{{"role":"user","content":"Hello!"}}]{}}}}})"
                         "\n",
                         id, more);
  }
  write(lines);
  const auto seconds_of = [](const std::function<void()>& job) {
    const auto begun = std::chrono::steady_clock::now();
    job();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  };
  how.prompts_ahead = 4;
  how.output = "/dev/full";
  const double failing = seconds_of([&] { EXPECT_THROW(run(), Error); });
  how.output = folder / "out.jsonl";
  BatchCounts counts;
  const double whole = seconds_of([&] { counts = run(); });
  EXPECT_EQ(counts.answered, 4);
  EXPECT_LT(failing, whole / 2);
}

constexpr const char* kToTheEnd = R"(,"ignore_eos":true)";

// Whatever else ends a batch, what has begun is answered and kept.
TEST_F(BatchFolder, OnlyAJournalThatFailsTakesBackWhatRuns) {
  std::string lines;
  for (const char* id : {"a", "b", "c"}) {
    lines += line(id, "\"Hello!\"", kToTheEnd, 400);
  }
  write(lines + line("short", "\"Who are you?\""));
  how.prompts_ahead = 4;
  bool thrown = false;
  answered = [&](const BatchAnswer& answer) {
    if (answer.custom_id == "short") {
      thrown = true;
      throw std::runtime_error("the terminal went away");
    }
  };
  try {
    run();
    ADD_FAILURE() << "it was stopped";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "the terminal went away");
  }
  EXPECT_TRUE(thrown);
  EXPECT_EQ(records().size(), 4U);
}

std::string base64_of(const std::string& bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t three = 0;
    for (std::size_t i = at; i < at + 3; ++i) {
      three = three << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0);
    }
    for (std::size_t digit = 0; digit < 4; ++digit) {
      text += digit > bytes.size() - at ? '=' : kDigits[three >> (18 - 6 * digit) & 63];
    }
  }
  return text;
}

// Pictures in data URLs beyond the bound go one after the other, however many lines may run.
TEST_F(BatchFolder, MediaInDataUrlsAreBoundedByTheirBytes) {
  std::ifstream file(folder / "picture-1.png", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const std::string base64 = base64_of(bytes);
  const auto picture = [&](const std::string& id, int tokens) {
    return line(id, fmt::format(R"([{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}])", base64),
                kToTheEnd, tokens);
  };
  write(picture("a", 600) + line("text", "\"Hello!\"", kToTheEnd, 2500) + picture("b", 8) + picture("c", 8));
  how.prompts_ahead = 4;
  std::vector<std::string> order;
  answered = [&](const BatchAnswer& answer) { order.push_back(answer.custom_id); };
  how.media_bytes_ahead = 1;
  EXPECT_EQ(run().answered, 4);
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "c", "text"}));
  order.clear();
  fs::remove(how.output);
  how.media_bytes_ahead = 4 * std::ssize(bytes);
  EXPECT_EQ(run().answered, 4);
  ASSERT_EQ(order.size(), 4U);
  EXPECT_EQ(order[2], "a") << "those behind it did not wait for it";
}

}  // namespace
}  // namespace zoetrope
