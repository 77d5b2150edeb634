#include "runtime/engine/step_message.h"

#include <gtest/gtest.h>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

StepMessage example() {
  StepMessage message;
  message.plan.step = 3;
  message.plan.starts = {{RequestId{5}, {}}};
  SequencePayload payload;
  payload.prompt.tokens = {1, 2, 3};
  payload.prompt.positions = {{0, 0, 0}, {1, 1, 1}, {2, 2, 2}};
  payload.prompt.rope_delta = -1;
  Medium medium;
  medium.sources = {MediaSource::memory("bytes", {std::byte{1}, std::byte{2}})};
  medium.frames = {0, 5};
  medium.grid = {1, 2, 2};
  medium.report.notes = {"turned"};
  payload.prompt.media = {medium};
  payload.prompt.units = {{0, 0, 1, 1}};
  payload.sampling.seed = 77;
  message.payloads = {payload};
  return message;
}

TEST(StepMessage, SurvivesTheWire) {
  const StepMessage message = example();
  const StepMessage back = decoded_message(encoded(message));
  EXPECT_EQ(back.plan, message.plan);
  EXPECT_EQ(back.payloads.at(0).prompt.tokens, message.payloads[0].prompt.tokens);
  EXPECT_EQ(back.payloads[0].prompt.media.at(0).report.notes, std::vector<std::string>{"turned"});
  EXPECT_EQ(*back.payloads[0].prompt.media[0].sources.at(0).bytes,
            *message.payloads[0].prompt.media[0].sources[0].bytes);
  EXPECT_EQ(back.payloads[0].sampling.seed, 77U);
  EXPECT_EQ(encoded(back), encoded(message));
}

TEST(StepMessage, EveryCutIsRefused) {
  const auto bytes = encoded(example());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(decoded_message(std::span(bytes).first(length)), Error) << length;
  }
}

TEST(StepResult, SurvivesTheWire) {
  StepResult result;
  result.drawn = {{RequestId{9}, {.token = 4, .logprob = -0.5f, .top = {{4, -0.5f}, {7, -1.5f}}}}};
  result.failed = {{RequestId{2}, "frame 7 is damaged"}};
  result.pending = {{RequestId{9}, 64}, {RequestId{3}, 0}};
  result.encode_seconds = 1.5;
  result.film_decode_seconds = 2.5;
  result.film_wait_seconds = 0.25;
  result.film_cpu_seconds = 4.75;
  result.counters.axes[2] = {.messages = 3, .bytes = 1000};
  result.counters.transfers[4] = {.exposed = 0.5, .hidden = 3};
  result.counters.pipe_wait_seconds = 1.25;
  result.counters.expert_rows = 77;
  result.trace = {{TracePhase::kCombine, 5, 10, 20}};
  const StepResult back = decoded_result(encoded(result));
  ASSERT_EQ(back.drawn.size(), 1U);
  EXPECT_EQ(back.drawn[0].sampled.top.at(1).token, 7);
  EXPECT_EQ(back.failed.at(0).why, "frame 7 is damaged");
  EXPECT_EQ(back.pending, result.pending);
  EXPECT_EQ(back.film_wait_seconds, 0.25);
  EXPECT_EQ(back.counters, result.counters);
  ASSERT_EQ(back.trace.size(), 1U);
  EXPECT_EQ(back.trace[0].phase, TracePhase::kCombine);
  EXPECT_EQ(back.trace[0].end_ns, 20);
  EXPECT_EQ(encoded(back), encoded(result));
  const auto bytes = encoded(result);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(decoded_result(std::span(bytes).first(length)), Error) << length;
  }
}

}  // namespace
}  // namespace zoetrope
