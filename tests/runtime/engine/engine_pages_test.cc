// Where the engine's pages are: prefixes that requests share, spans that grow. One answer wherever they lie.
#include <gtest/gtest.h>

#include "tests/runtime/engine/engine_answers.h"

namespace zoetrope::test {
namespace {

// Several questions about the same film and pictures: together, one after the other, in every span, with so little
// memory that films push each other out, always the bits of each question alone.
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
        const Answers shared = compared({.ring = span, .tp = 1}, how,
                                        "span " + std::to_string(span) + ", sequences " + std::to_string(sequences));
        const Told& again = shared.at("g the first again");
        EXPECT_EQ(again.cached_tokens, again.prompt_tokens - 1);
        EXPECT_LT(shared.at("b last").prompt_tokens - shared.at("b last").cached_tokens, 16) << "only the question";
        EXPECT_EQ(shared.at("a first").cached_tokens, 0);
        EXPECT_LT(shared.at("e other frames").cached_tokens, 200)
            << "other frames are another film from the second pair on";
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

// A span that grows from 1 to 2 to 4 members while the answer is drawn, against a fixed one of 4 and one member alone.
// Pages are of 256 tokens: lengths around one, members with one page and with none.
TEST(Engine, OneAnswerInASpanThatGrows) {
  const auto talk = [](std::size_t words, int tokens) {
    std::string text;
    for (std::size_t i = 0; i < words; ++i) {
      text += i % 3 == 0 ? "red " : "circle ";
    }
    return R"({"messages":[{"role":"user","content":")" + text + R"("}],"max_tokens":)" + std::to_string(tokens) +
           R"(,"ignore_eos":true,"logprobs":true})";
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

// A film that is left alone takes idle members in the middle of its prefill, also while features wait for their tokens,
// each stage with those that its layers add.
TEST(Engine, OneAnswerWhereAPrefillTakesIdleMembers) {
  Questions questions;
  questions["film"] = film_questions().at("second");
  questions["a talk"] = R"({"messages":[{"role":"user","content":"Hello!"}],"max_tokens":2,"logprobs":true})";
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    EngineSettings how = settings(16, 1, precision);
    const Answers alone = over({}, how, questions);
    how.span_pages = 1;
    how.work = WorkModel{.row = 4096, .page_transfer = 16384};  // as of a large model: sending pages is worth while
    for (const Layout& layout :
         {Layout{.ring = 2}, Layout{.ring = 4}, Layout{.ring = 2, .pp = 2}, Layout{.ring = 2, .pp = 3}}) {
      const Answers grown = over(layout, how, questions);
      expect_equal(alone, grown, "ring " + std::to_string(layout.ring) + ", stages " + std::to_string(layout.pp));
      EXPECT_GT(grown.at("film").growths, 0);
    }
  }
}

}  // namespace
}  // namespace zoetrope::test
