#include "runtime/batch/completion.h"

#include <gtest/gtest.h>

#include <limits>

namespace zoetrope {
namespace {

Answer example(const std::string& text) {
  Answer answer;
  answer.text = text;
  answer.tokens = {{.token = 1, .logprob = -0.25f, .top = {}},
                   {.token = 2, .logprob = -std::numeric_limits<float>::infinity(), .top = {}}};
  answer.prompt_tokens = 10;
  answer.seed = std::numeric_limits<std::uint64_t>::max();
  return answer;
}

TEST(Completion, ReasoningIsSplitFromTheAnswer) {
  CompletionContext context;
  context.thinking = true;
  const json::Object body = completion("id", example("\nlooking\n</think>\n\nA circle.\n"), false, context);
  const json::Object message = body.at("choices").as_array().at(0).as_object().at("message").as_object();
  EXPECT_EQ(message.at("reasoning_content"), "looking");
  EXPECT_EQ(message.at("content"), "A circle.");
  const json::Object unfinished = completion("id", example("still looking"), false, context)
                                      .at("choices")
                                      .as_array()
                                      .at(0)
                                      .as_object()
                                      .at("message")
                                      .as_object();
  EXPECT_EQ(unfinished.at("reasoning_content"), "still looking");
  EXPECT_EQ(unfinished.at("content"), "");
}

TEST(Completion, IsValidJsonWithWholeSeeds) {
  const json::Object body = completion("id", example("a\"b"), false, {});
  const json::Value back = json::parse(boost::json::serialize(body), {"completion", Radius::kRequest});
  EXPECT_EQ(back.as_object().at("seed").as_uint64(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(back.as_object().at("usage").as_object().at("completion_tokens").as_int64(), 2);
  EXPECT_EQ(back.as_object().at("choices").as_array().at(0).as_object().at("finish_reason"), "stop");
}

TEST(Completion, AFilmIsReportedWithItsFrames) {
  MediaReport report;
  report.kind = "video";
  report.file = "film.mp4";
  report.frames_used = 40;
  report.notes = {"turned by 90 degrees"};
  const json::Object out = media_report(report);
  EXPECT_EQ(out.at("frames_used").as_int64(), 40);
  EXPECT_EQ(out.at("notes").as_array().at(0), "turned by 90 degrees");
  report.kind = "image";
  EXPECT_FALSE(media_report(report).contains("frames_used"));
}

}  // namespace
}  // namespace zoetrope
