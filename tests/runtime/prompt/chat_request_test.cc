#include "runtime/prompt/chat_request.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

ChatRequest read(const std::string& more, const std::string& content = "\"Hello\"", GenerationConfig defaults = {}) {
  const json::Value body = json::parse(R"({"messages":[{"role":"user","content":)" + content + "}]" + more + "}",
                                       {"line", Radius::kRequest});
  return read_chat_request(json::Fields(body, {"line", Radius::kRequest}), "line", "/base", defaults);
}

std::string complaint(const std::string& more, const std::string& content = "\"Hello\"") {
  try {
    read(more, content);
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kRequest);
    return error.what();
  }
  return "";
}

TEST(ChatRequest, DefaultsComeFromTheCheckpoint) {
  GenerationConfig defaults;
  defaults.sample = true;
  defaults.temperature = 0.7;
  defaults.top_p = 0.8;
  defaults.top_k = 20;
  ChatRequest request = read("", "\"x\"", defaults);
  EXPECT_EQ(request.sampling.temperature, 0.7);
  EXPECT_EQ(request.sampling.top_p, 0.8);
  EXPECT_EQ(request.sampling.top_k, 20);
  EXPECT_FALSE(request.seed_given);
  defaults.sample = false;
  EXPECT_EQ(read("", "\"x\"", defaults).sampling.temperature, 0.0);
  request =
      read(R"(,"temperature":0.2,"seed":7,"top_k":-1,"max_completion_tokens":9,"stop":["a","b"])", "\"x\"", defaults);
  EXPECT_EQ(request.sampling.temperature, 0.2);
  EXPECT_EQ(request.sampling.seed, 7U);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.new_tokens_max, 9);
  EXPECT_EQ(request.stop, (std::vector<std::string>{"a", "b"}));
}

TEST(ChatRequest, TwoRequestsWithoutASeedGetDifferentOnes) {
  EXPECT_NE(read("").sampling.seed, read("").sampling.seed);
}

TEST(ChatRequest, OpenAiPartsBecomeTemplateItems) {
  const ChatRequest request = read(
      "",
      R"([{"type":"video_url","video_url":{"url":"a.mp4","fps":1}},{"type":"image_url","image_url":"b.png"},{"type":"text","text":"?"}])");
  const json::Array& content = request.messages.at(0).as_object().at("content").as_array();
  EXPECT_EQ(content.at(0), (json::Object{{"type", "video"}, {"video", "a.mp4"}, {"fps", 1}}));
  EXPECT_EQ(content.at(1), (json::Object{{"type", "image"}, {"image", "b.png"}}));
  EXPECT_EQ(content.at(2), (json::Object{{"type", "text"}, {"text", "?"}}));
}

TEST(ChatRequest, OptionsOfAnItemOverrideThoseOfTheRequest) {
  const ChatRequest request = read(R"(,"mm_processor_kwargs":{"fps":2,"total_pixels":100000})");
  const json::Object item{{"num_frames", 8}, {"rotate", false}, {"timestamps", "reference"}};
  const VideoOptions options = video_options_of(json::Fields(item, {"line", Radius::kRequest}), request.video);
  EXPECT_FALSE(options.fps.has_value());
  EXPECT_EQ(options.num_frames, 8);
  EXPECT_EQ(options.total_pixels, 100000);
  EXPECT_FALSE(options.rotate);
  EXPECT_TRUE(options.reference_timestamps);
}

TEST(ChatRequest, EveryMistakeIsNamedWithItsRemedy) {
  const std::vector<std::pair<std::string, std::string>> mistakes{
      {R"(,"temprature":1)", "temperature"},
      {R"(,"temperature":3)", "from 0 to 2"},
      {R"(,"temperature":"hot")", "a number"},
      {R"(,"top_p":0)", "above 0"},
      {R"(,"n":2)", "from 1 to 1"},
      {R"(,"stream":true)", "false"},
      {R"(,"max_tokens":0)", "from 1"},
      {R"(,"max_tokens":5,"max_completion_tokens":5)", "one of the two"},
      {R"(,"stop":["a","b","c","d","e"])", "up to 4"},
      {R"(,"stop":[""])", "non-empty"},
      {R"(,"top_logprobs":3)", "logprobs"},
      {R"(,"seed":1.5)", "whole number"},
      {R"(,"response_format":{"type":"json_object"})", "'text'"},
      {R"(,"tool_choice":"required")", "'auto' or 'none'"},
      {R"(,"mm_processor_kwargs":{"fsp":1})", "'fps'"},
      {R"(,"mm_processor_kwargs":{"fps":1,"num_frames":4})", "one of the two"},
      {R"(,"mm_processor_kwargs":{"fps":-1})", "above 0"},
      {R"(,"chat_template_kwargs":{"add_vision_idd":true})", "'add_vision_id'"},
      {R"(,"repetition_penalty":0)", "0.001 to 1000"}};
  for (const auto& [more, expected] : mistakes) {
    const std::string what = complaint(more);
    EXPECT_NE(what.find("found"), std::string::npos) << more << ": " << what;
    EXPECT_NE(what.find(expected), std::string::npos) << more << ": " << what;
  }
  EXPECT_NE(complaint("", R"([{"type":"audio_url","audio_url":{"url":"a"}}])").find("video_url"), std::string::npos);
  EXPECT_NE(complaint("", R"([{"type":"image_url","image_url":{"link":"a"}}])").find("url"), std::string::npos);
}

TEST(ChatRequest, APenaltyThatSamplingWouldRefuseFailsItsRequestOnly) {
  EXPECT_NE(complaint(R"(,"repetition_penalty":1e300)").find("from 0.001 to 1000"), std::string::npos);
  EXPECT_NE(complaint(R"(,"repetition_penalty":1e-9)").find("from 0.001 to 1000"), std::string::npos);
  EXPECT_EQ(read(R"(,"repetition_penalty":1000)").sampling.repetition_penalty, 1000);
}

TEST(ChatRequest, UnknownRolesAreRefused) {
  const json::Value body = json::parse(R"({"messages":[{"role":"robot","content":"x"}]})", {"line", Radius::kRequest});
  EXPECT_THROW(read_chat_request(json::Fields(body, {"line", Radius::kRequest}), "line", "", {}), Error);
}

TEST(ChatRequest, WhatSamplingOrTheTemplateWouldRefuseLaterIsRefusedAtOnce) {
  EXPECT_NE(complaint(R"(,"temperature":1e-50)").find("temperature: found 1e-50, expected 0 or a number from"),
            std::string::npos)
      << complaint(R"(,"temperature":1e-50)");
  EXPECT_EQ(complaint(R"(,"temperature":0)"), "");
  EXPECT_EQ(complaint(R"(,"temperature":0.01)"), "");
  EXPECT_NE(complaint(R"(,"top_k":2000000000)"), "");
  EXPECT_NE(complaint("", R"({"text":"hi"})").find("messages[0].content: found an object"), std::string::npos);
  EXPECT_EQ(complaint("", "null"), "");
  EXPECT_NE(complaint(R"(,"mm_processor_kwargs":{"timestamps":[1,2]})").find("timestamps"), std::string::npos);
  EXPECT_NE(complaint(R"(,"mm_processor_kwargs":{"timestamps":1})"), "");
  EXPECT_EQ(complaint(R"(,"mm_processor_kwargs":{"timestamps":"reference"})"), "");
}

}  // namespace
}  // namespace zoetrope
