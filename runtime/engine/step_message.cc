#include "runtime/engine/step_message.h"

#include <fmt/format.h>

#include "monitoring/check.h"
#include "monitoring/wire.h"

namespace zoetrope {

std::vector<std::byte> encoded(const StepMessage& message) {
  check_eq(message.plan.starts.size(), message.payloads.size(), "every sequence that starts brings its prompt");
  WireWriter w;
  w.put_bytes(encoded(message.plan));
  for (const SequencePayload& payload : message.payloads) {
    w.put_bytes(encoded(payload.prompt));
    w.put(payload.sampling);
  }
  return w.take();
}

StepMessage decoded_message(std::span<const std::byte> bytes) {
  WireReader r(bytes, "a step message");
  StepMessage message;
  message.plan = decoded(r.get_bytes());
  for (std::size_t i = 0; i < message.plan.starts.size(); ++i) {
    SequencePayload payload;
    payload.prompt = decoded_prompt(r.get_bytes());
    payload.sampling = r.get<SamplingSettings>();
    message.payloads.push_back(std::move(payload));
  }
  r.end();
  return message;
}

std::vector<std::byte> encoded(const StepResult& result) {
  WireWriter w;
  w.put_list(result.drawn, [&](const DrawnRow& row) {
    w.put(row.id);
    w.put(row.sampled.token);
    w.put(row.sampled.logprob);
    w.put_list(row.sampled.top);
  });
  w.put_list(result.failed, [&](const FailedSequence& failure) {
    w.put(failure.id);
    w.put_text(failure.why);
  });
  w.put_list(result.pending, [&](const PendingFrames& frames) {
    w.put(frames.id);
    w.put(frames.unit);
  });
  w.put(result.encode_seconds);
  w.put(result.film_decode_seconds);
  w.put(result.film_wait_seconds);
  w.put(result.film_cpu_seconds);
  w.put(result.counters);
  w.put_list(result.trace);
  return w.take();
}

StepResult decoded_result(std::span<const std::byte> bytes) {
  WireReader r(bytes, "a step result");
  StepResult result;
  result.drawn = r.get_list(24, [&] {
    DrawnRow row;
    row.id = r.get<RequestId>();
    row.sampled.token = r.get<std::int32_t>();
    row.sampled.logprob = r.get<float>();
    row.sampled.top = r.get_list<TokenLogprob>();
    return row;
  });
  result.failed = r.get_list(16, [&] {
    FailedSequence failure;
    failure.id = r.get<RequestId>();
    failure.why = r.get_text();
    return failure;
  });
  result.pending = r.get_list(12, [&] {
    PendingFrames frames;
    frames.id = r.get<RequestId>();
    frames.unit = r.get<std::int32_t>();
    if (frames.unit < 0) {
      r.malformed(fmt::format("pending unit {}", frames.unit), "no negative number");
    }
    return frames;
  });
  result.encode_seconds = r.get<double>();
  result.film_decode_seconds = r.get<double>();
  result.film_wait_seconds = r.get<double>();
  result.film_cpu_seconds = r.get<double>();
  result.counters = r.get<RankCounters>();
  result.trace = r.get_list<TraceSpan>();
  r.end();
  return result;
}

}  // namespace zoetrope
