// The engine on the bundled checkpoint with real films: one answer in every layout, chunk and company; failures stay with
// their request.
#include "runtime/engine/engine.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "monitoring/error.h"
#include "tests/source_folder.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

fs::path models() { return test::source_folder() / "models"; }

struct Told {
  std::string text;       // of the answer
  std::string streamed;   // of the events
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

Questions film_questions() {
  const auto film = [](const std::string& file, const std::string& text, const std::string& more = "") {
    return R"({"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":")" + file +
           R"("}},{"type":"text","text":")" + text + R"("}]}],"max_tokens":24,"logprobs":true)" + more + "}";
  };
  return {{"when", film("film-20s.mp4", "When does the green circle appear?")},
          {"sampled", film("film-30s.mp4", "What happens in the video?", R"(,"temperature":1.3,"seed":5,"top_p":0.95)")},
          {"picture", R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"picture-2.png"}},{"type":"text","text":"Describe the picture."}]}],"max_tokens":24,"logprobs":true})"},
          {"talk", R"({"messages":[{"role":"user","content":"Who are you?"}],"max_tokens":24,"logprobs":true})"},
          {"second", film("film-45s.mp4", "What appears first?", R"(,"mm_processor_kwargs":{"max_frames":21})")}};
}

Questions questions_about_films() {
  Questions questions;
  const auto ask = [&](const std::string& name, const std::string& medium, const std::string& text, const std::string& more = "") {
    questions[name] = R"({"messages":[{"role":"user","content":[)" + medium + R"(,{"type":"text","text":")" + text + R"("}]}],"max_tokens":16,"logprobs":true)" + more + "}";
  };
  const std::string film = R"({"type":"video_url","video_url":{"url":"film-45s.mp4"}})", other = R"({"type":"video_url","video_url":{"url":"film-30s.mp4"}})",
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
    ChatRequest request = read_chat_request(json::Fields(body, {name, Radius::kRequest}), name, models() / "samples", engine.generation());
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

EngineSettings settings(std::int64_t chunk = 1024, int threads = 1, Precision precision = Precision::kBf16) {
  EngineSettings s;
  s.threads = threads;
  s.chunk_tokens_max = chunk;
  s.sequences_max = 8;
  s.precision = precision;
  s.kv_bytes_per_rank = 64 << 20;
  return s;
}

Answers over(const Layout& layout, const EngineSettings& how, const Questions& questions) {
  Answers answers;
  run_ranks(layout, [&](Ranks& ranks) {
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
    EXPECT_EQ(std::memcmp(told.logprobs.data(), other.logprobs.data(), told.logprobs.size() * sizeof(float)), 0) << what << ' ' << name;
    EXPECT_EQ(told.streamed, told.text);
  }
}

TEST(Engine, AnswersWhatTheReferenceAnswers) {
  const Answers answers = over({}, settings(), film_questions());
  EXPECT_EQ(answers.at("when").text, "The green circle appears at 13.6 seconds.");
  EXPECT_EQ(answers.at("when").reason, FinishReason::kStop);
  EXPECT_EQ(answers.at("when").media.at(0).frames_used, 40);
  EXPECT_EQ(answers.at("second").media.at(0).frames_used, 21);
}

TEST(Engine, OneAnswerInEveryLayout) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    for (const Layout layout : {Layout{2, 1}, Layout{1, 2}, Layout{2, 2}, Layout{4, 1}, Layout{1, 4}, Layout{8, 1}}) {
      expect_equal(alone, over(layout, settings(1024, 1, precision), film_questions()), described(layout));
    }
  }
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

fs::path scratch(const std::string& name) {
  return fs::temp_directory_path() / ("zoetrope-engine-" + name + "." + std::to_string(::getpid()));
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Experts by a file with replicas, by counted load, and in order: the same bits. The load that a run counts is that of
// every other layout.
TEST(Engine, OneAnswerInEveryPlacementOfExperts) {
  const fs::path file = scratch("placement"), load = scratch("load"), again = scratch("again");
  std::ofstream(file) << R"({"all_layers": {"0": [0, 1], "1": 3, "2": 3, "3": [1, 2, 3], "4": 3, "5": 2, "6": 3, "7": [0, 3]}})";
  EngineSettings how = settings();
  how.experts.load_out = load;
  const Answers alone = over({}, how, film_questions());
  how.experts = {.placement = file, .load = {}, .groups = 0, .extra = 1, .load_out = again};
  for (const Layout layout : {Layout{4, 1}, Layout{2, 2}, Layout{2, 2, 2}}) {  // four ranks a stage
    expect_equal(alone, over(layout, how, film_questions()), described(layout) + " placed by a file");
    EXPECT_EQ(text_of(load), text_of(again));
  }
  for (const int extra : {0, 2}) {
    how.experts = {.placement = "auto", .load = load, .groups = 0, .extra = extra, .load_out = {}};
    expect_equal(alone, over({3, 1}, how, film_questions()), "balanced");
  }
  how.experts.placement = file;  // names rank 3
  EXPECT_THROW(over({2, 1}, how, {}), Error);
  for (const fs::path& made : {file, load, again}) {
    fs::remove(made);
  }
}

// Experts cut over two ranks: their partials meet at home as slices do.
TEST(Engine, OneAnswerWithExpertsCutInTwo) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    for (const Layout layout : {Layout{2, 1}, Layout{4, 1}, Layout{2, 2}, Layout{3, 2}, Layout{2, 1, 2}, Layout{1, 2, 3}}) {
      EngineSettings how = settings(257, 1, precision);
      how.experts.groups = layout.stage_ranks() / 2;
      expect_equal(alone, over(layout, how, film_questions()), described(layout) + " cut in two");
    }
  }
  EngineSettings wrong = settings();
  wrong.experts.groups = 2;
  EXPECT_THROW(over({3, 1}, wrong, {}), Error);
}

double metric(const std::string& text, const std::string& series) {
  const auto at = text.find("\n" + series + " ");
  EXPECT_NE(at, std::string::npos) << series << " in\n" << text;
  return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
}

struct Event {
  std::string phase;
  std::int64_t rank = 0, index = -1;
  double begin = 0, duration = 0;
};
std::vector<Event> events_of(const fs::path& file) {
  const std::string text = text_of(file);
  const json::Value trace = json::parse(text, {"trace", Radius::kRequest});
  std::vector<Event> events;
  for (const json::Value& event : trace.at("traceEvents").as_array()) {
    if (event.at("ph").as_string() == "X") {
      const auto* const args = event.as_object().if_contains("args");
      events.push_back({std::string(event.at("name").as_string()), event.at("tid").as_int64(), args == nullptr ? -1 : args->at("index").as_int64(),
                        event.at("ts").to_number<double>(), event.at("dur").to_number<double>()});
    }
  }
  return events;
}

TEST(Engine, TellsWhatItDidInMetricsAndATrace) {
  EngineSettings how = settings(256);
  how.report = {scratch("metrics"), scratch("trace")};
  const Answers plain = over({2, 2}, settings(256), film_questions());
  expect_equal(plain, over({2, 2}, how, film_questions()), "observed");
  const std::string metrics = text_of(how.report.metrics_file);
  double drawn = 0;
  for (const auto& [name, told] : plain) {
    drawn += static_cast<double>(told.tokens.size()) - 1;  // the last token drawn is not computed
  }
  EXPECT_EQ(metric(metrics, "zoetrope_decode_tokens_total"), drawn);
  EXPECT_GT(metric(metrics, "zoetrope_prefill_tokens_total"), 500);
  EXPECT_EQ(metric(metrics, "zoetrope_requests_total{outcome=\"stop\"}") + metric(metrics, "zoetrope_requests_total{outcome=\"length\"}"), 5);
  const double tokens = drawn + metric(metrics, "zoetrope_prefill_tokens_total");
  double rows = 0;
  for (const char* rank : {"0", "1", "2", "3"}) {
    rows += metric(metrics, std::string("zoetrope_expert_rows_total{rank=\"") + rank + "\"}");
  }
  EXPECT_EQ(rows, tokens * 2 * 6);  // top 2, 6 layers
  EXPECT_GE(metric(metrics, "zoetrope_expert_load_max_over_mean_ratio"), 1);
  EXPECT_GT(metric(metrics, "zoetrope_collective_bytes_total{axis=\"tp\"}"), 1e6);
  EXPECT_GT(metric(metrics, "zoetrope_collective_bytes_total{axis=\"stage\"}"), 1e6);
  EXPECT_GT(metric(metrics, "zoetrope_collective_bytes_total{axis=\"world\"}"), 1e4);
  EXPECT_EQ(metric(metrics, "zoetrope_collective_bytes_total{axis=\"pipe\"}"), 0);

  std::map<std::string, std::set<std::int64_t>> lanes;  // of each phase
  std::map<std::pair<std::int64_t, std::string>, double> spent;
  for (const Event& event : events_of(how.report.trace_file)) {
    lanes[event.phase].insert(event.rank);
    spent[{event.rank, event.phase}] += event.duration;
    EXPECT_GE(event.begin, 0);
  }
  for (const char* phase : {"step", "forward", "attention", "dispatch", "experts", "combine", "head", "encode"}) {
    EXPECT_EQ(lanes[phase], (std::set<std::int64_t>{0, 1, 2, 3})) << phase;
  }
  EXPECT_EQ(lanes["plan"], (std::set<std::int64_t>{0}));
  EXPECT_EQ(lanes["draw"], (std::set<std::int64_t>{0, 2}));
  for (const std::int64_t rank : {0, 1, 2, 3}) {
    const auto of = [&](const char* name) { return spent[{rank, name}]; };
    EXPECT_LE(of("dispatch") + of("experts") + of("combine") + of("attention") + of("head"), of("forward"));
    EXPECT_LE(of("forward") + of("encode"), of("step"));
  }
  fs::remove(how.report.metrics_file);
  fs::remove(how.report.trace_file);
}

TEST(Engine, TellsWhereAPipelineWaitsAndWhatTheCacheHad) {
  EngineSettings how = settings(256);
  how.sequences_max = 1;
  how.report = {scratch("metrics"), scratch("trace")};
  const Answers answers = over({1, 1, 2}, how, questions_about_films());
  double cached = 0;
  for (const auto& [name, told] : answers) {
    cached += static_cast<double>(told.cached_tokens);
  }
  const std::string metrics = text_of(how.report.metrics_file);
  EXPECT_GT(cached, 0);
  EXPECT_EQ(metric(metrics, "zoetrope_prefix_cached_tokens_total"), cached);
  EXPECT_GT(metric(metrics, "zoetrope_kv_pages_kept{member=\"0\"}"), 0);
  EXPECT_EQ(metric(metrics, "zoetrope_kv_pages_in_use{member=\"0\"}"), 0);
  EXPECT_GT(metric(metrics, "zoetrope_collective_messages_total{axis=\"pipe\"}"), 0);
  EXPECT_EQ(metric(metrics, "zoetrope_collective_messages_total{axis=\"stage\"}"), 0);

  std::map<std::string, std::set<std::int64_t>> lanes;    // of each phase
  std::map<std::int64_t, std::set<std::int64_t>> layers;  // of each rank
  for (const Event& event : events_of(how.report.trace_file)) {
    lanes[event.phase].insert(event.rank);
    if (event.phase == "attention") {
      layers[event.rank].insert(event.index);
    }
  }
  EXPECT_EQ(lanes["hand-over"], (std::set<std::int64_t>{0, 1}));
  EXPECT_EQ(lanes["head"], (std::set<std::int64_t>{1}));
  EXPECT_EQ(lanes["draw"], (std::set<std::int64_t>{1}));
  EXPECT_EQ(layers[0].size() + layers[1].size(), 6U);
  EXPECT_EQ(*layers[0].rbegin() + 1, *layers[1].begin());
  fs::remove(how.report.metrics_file);
  fs::remove(how.report.trace_file);
}

// Every sequence spread over members, whichever way the queries and pages meet.
TEST(Engine, OneAnswerInEverySpan) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    for (const Layout layout : {Layout{2, 1}, Layout{4, 1}, Layout{2, 2}, Layout{8, 1}}) {
      for (const RingPass pass : {RingPass::kQueries, RingPass::kPages, RingPass::kFewestBytes}) {
        if (layout.ring > 4 && (pass != RingPass::kQueries || precision == Precision::kFp32)) {
          continue;
        }
        EngineSettings how = settings(pass == RingPass::kPages ? 100 : 257, 1, precision);
        how.span_members = layout.ring;
        how.ring_pass = pass;
        how.ring_transport = (pass == RingPass::kPages) == (precision == Precision::kBf16) ? RingTransport::kMessages : RingTransport::kShared;
        expect_equal(alone, over(layout, how, film_questions()), described(layout) + " spanned, pass " + std::to_string(static_cast<int>(pass)) + (precision == Precision::kBf16 ? " bf16" : " fp32"));
      }
    }
  }
  EngineSettings some = settings();
  some.span_members = 2;
  expect_equal(over({}, settings(), film_questions()), over({.ring = 3, .tp = 1}, some, film_questions()), "spans of 2 in a ring of 3");
}

// Layers cut in stages, waves of many sizes between them, with ring, tp and spans inside the stages.
TEST(Engine, OneAnswerInEveryPipeline) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const Answers alone = over({}, settings(1024, 1, precision), film_questions());
    for (const Layout layout : {Layout{1, 1, 2}, Layout{1, 1, 3}, Layout{1, 1, 4}, Layout{1, 1, 6}, Layout{2, 1, 2}, Layout{1, 2, 2}, Layout{2, 2, 2}, Layout{4, 1, 2}}) {
      if (precision == Precision::kFp32 && layout.ranks() > 4) {
        continue;
      }
      const std::int64_t chunk = layout.ring > 1 ? 1024 : 40;
      expect_equal(alone, over(layout, settings(chunk, 1, precision), film_questions()), described(layout) + ", chunks of " + std::to_string(chunk));
    }
    for (const Layout layout : {Layout{2, 1, 2}, Layout{2, 2, 2}}) {
      EngineSettings how = settings(100, 1, precision);
      how.span_members = 2;
      how.waves_max = 5;
      expect_equal(alone, over(layout, how, film_questions()), described(layout) + " spanned");
    }
  }
}

TEST(Engine, OneAnswerInEveryChunkThreadsAndCompany) {
  const Answers whole = over({}, settings(), film_questions());
  for (const std::int64_t chunk : {16, 255, 256, 257}) {
    expect_equal(whole, over({}, settings(chunk), film_questions()), "chunk " + std::to_string(chunk));
  }
  expect_equal(whole, over({}, settings(1024, 3), film_questions()), "3 threads");
  for (const auto& [name, body] : film_questions()) {
    const Answers single = over({}, settings(100), {{name, body}});
    EXPECT_EQ(single.at(name).tokens, whole.at(name).tokens) << name << " alone";
    EXPECT_EQ(single.at(name).logprobs, whole.at(name).logprobs) << name << " alone";
  }
}

// Films by stretches of any length, decoded ahead or when they are needed, by one or several decoders a rank: one answer.
TEST(Engine, OneAnswerInEveryStretch) {
  const Answers whole = over({}, settings(), film_questions());
  for (const Layout layout : {Layout{1, 1}, Layout{2, 2}}) {
    for (const std::int64_t stretch : {1, 37}) {
      for (const bool look_ahead : {true, false}) {
        EngineSettings how = settings(stretch == 37 ? 100 : 1024, layout.ring == 1 ? 3 : 1);
        how.stretch_tokens = stretch;
        how.look_ahead = look_ahead;
        expect_equal(whole, over(layout, how, film_questions()),
                     described(layout) + " stretches of " + std::to_string(stretch) + (look_ahead ? " ahead" : ""));
      }
    }
  }
  EngineSettings spanned = settings(257);
  spanned.stretch_tokens = 50;
  spanned.span_members = 4;
  expect_equal(whole, over({4, 1}, spanned, film_questions()), "spanned");
}

// Several questions about the same film and pictures: together, one after the other, in every span, with so little memory that
// films push each other out, always the bits of each question alone.
TEST(Engine, OneAnswerFromACachedPrefix) {
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    EngineSettings off = settings(1024, 1, precision);
    off.prefix_cache = false;
    const Answers alone = over({}, off, questions_about_films());
    for (const auto& [name, told] : alone) {
      EXPECT_EQ(told.cached_tokens, 0) << name;
    }
    const auto compared = [&](const Layout& layout, const EngineSettings& how, const std::string& what) {
      const Answers shared = over(layout, how, questions_about_films());
      expect_equal(alone, shared, what);
      return shared;
    };
    for (const int span : {1, 2, 4}) {
      for (const std::int32_t sequences : {1, 8}) {
        if (precision == Precision::kFp32 && span == 4) {
          continue;
        }
        EngineSettings how = settings(sequences == 1 ? 1024 : 100, 1, precision);
        how.span_members = span;
        how.sequences_max = sequences;
        const Answers shared = compared({.ring = span, .tp = 1}, how, "span " + std::to_string(span) + ", sequences " + std::to_string(sequences));
        const Told& again = shared.at("g the first again");
        EXPECT_EQ(again.cached_tokens, again.prompt_tokens - 1);
        EXPECT_LT(shared.at("b last").prompt_tokens - shared.at("b last").cached_tokens, 16) << "only the question";
        EXPECT_EQ(shared.at("a first").cached_tokens, 0);
        EXPECT_LT(shared.at("e other frames").cached_tokens, 200) << "other frames are another film from the second pair on";
      }
    }
    EngineSettings small = settings(300, 1, precision);
    small.kv_bytes_per_rank = precision == Precision::kBf16 ? 5 << 20 : 10 << 20;
    small.sequences_max = 2;
    compared({}, small, "little memory");
    compared({.ring = 2, .tp = 1}, small, "little memory, two members");
    compared({.ring = 1, .tp = 2}, settings(100, 1, precision), "two heads each");
  }
}

// A span that grows from 1 to 2 to 4 members while the answer is drawn, against a fixed one of 4 and one member alone. Pages are
// of 256 tokens: lengths around one, members with one page and with none.
TEST(Engine, OneAnswerInASpanThatGrows) {
  const auto talk = [](std::size_t words, int tokens) {
    std::string text;
    for (std::size_t i = 0; i < words; ++i) {
      text += i % 3 == 0 ? "red " : "circle ";
    }
    return R"({"messages":[{"role":"user","content":")" + text + R"("}],"max_tokens":)" + std::to_string(tokens) + R"(,"ignore_eos":true,"logprobs":true})";
  };
  const std::int64_t page = 420000;  // bytes of a page in bf16 mode, rounded up
  const auto lived_in = [](const Answers& answers, int members, int growths) {
    for (const auto& [name, told] : answers) {
      EXPECT_EQ(told.members, members) << name;
      EXPECT_EQ(told.growths, growths) << name;
    }
  };
  EngineSettings small = settings(100), fixed = settings(100);
  small.sequences_max = fixed.sequences_max = 1;
  small.prefix_cache = fixed.prefix_cache = false;
  fixed.span_members = 4;
  for (const int first : {225, 226, 227}) {  // with the template's own tokens about one page
    const Questions questions{{"about a page", talk(static_cast<std::size_t>(first), 40)}};
    const Answers alone = over({}, settings(100), questions);
    small.kv_bytes_per_rank = page;
    const Answers grown = over({.ring = 2, .tp = 1}, small, questions);
    expect_equal(alone, grown, "one page on each member");
    EXPECT_EQ(grown.at("about a page").members, 2);
  }
  const Questions questions{{"long", talk(480, 560)}};
  const Answers alone = over({}, settings(100), questions);
  expect_equal(alone, over({.ring = 4, .tp = 1}, fixed, questions), "fixed span of 4");
  small.kv_bytes_per_rank = 2 * page;
  const Answers grown = over({.ring = 4, .tp = 1}, small, questions);
  expect_equal(alone, grown, "grown to 4");
  lived_in(grown, 4, 2);
  const Answers shared = over({.ring = 4, .tp = 2}, small, questions);
  expect_equal(alone, shared, "grown to 4, two heads each");
}

// A film that is left alone takes idle members in the middle of its prefill, also while features wait for their tokens.
TEST(Engine, OneAnswerWhereAPrefillTakesIdleMembers) {
  Questions questions;
  questions["film"] = film_questions().at("second");
  questions["a talk"] = R"({"messages":[{"role":"user","content":"Hello!"}],"max_tokens":2,"logprobs":true})";
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    EngineSettings how = settings(16, 1, precision);
    const Answers alone = over({}, how, questions);
    how.span_pages = 1;
    how.work = WorkModel{.row = 4096, .page_transfer = 16384};  // as of a large model: sending pages is worth while
    for (const int ring : {2, 4}) {
      const Answers grown = over({.ring = ring, .tp = 1}, how, questions);
      expect_equal(alone, grown, "ring " + std::to_string(ring));
      EXPECT_GT(grown.at("film").growths, 0);
    }
  }
}

TEST(Engine, ASeedDrawsTheSameAnswerAndAnotherSeedAnother) {
  Questions questions;
  for (int seed = 0; seed < 6; ++seed) {
    questions["seed " + std::to_string(seed)] = R"({"messages":[{"role":"user","content":"Hello!"}],"max_tokens":20,"temperature":2,"seed":)" + std::to_string(seed) + "}";
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
      {"damaged", R"({"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":")" + (folder / "damaged.mp4").string() +
                      R"("}},{"type":"text","text":"What appears first?"}]}],"max_tokens":8})"},
      {"second", R"({"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":")" + (folder / "damaged.mp4").string() +
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
}  // namespace zoetrope
