// What a rank did when: spans of the phases of its steps, gathered by the leader into a Chrome trace (JSON) that
// chrome://tracing and Perfetto open, one lane per rank. Off is a null pointer.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace zoetrope {

enum class TracePhase : std::int32_t {
  kPlan,              // leader: take in, plan, share the plan
  kStep,              // all that a rank does for a plan
  kGrow,              // a sequence's pages to the members that its span grows by
  kDecodeFilm,        // waiting for frames, and frames to patches
  kEncode,            // patches to features
  kExchangeFeatures,  // features to the owners of their tokens
  kForward,           // tokens to logits
  kAttention,         // a layer's attention block
  kRing,              // of it: sequences that span members
  kFeedForward,       // a dense layer's second half
  kDispatch,          // tokens to experts
  kExperts,           // their products
  kCombine,           // outputs home, and their sum
  kHandOver,          // of a wave: waiting for the stage before, and for room at the one behind
  kHead,              // last rows to logits
  kDraw,              // logits to tokens
  kCount,
};
std::string_view name_of(TracePhase phase);

struct TraceSpan {
  TracePhase phase = TracePhase::kStep;
  std::int32_t index = -1;                // layer, or step of the rank; -1: none
  std::int64_t begin_ns = 0, end_ns = 0;  // since the recorder's origin
};

// Spans of one rank. One thread.
class TraceRecorder {
 public:
  using Clock = std::chrono::steady_clock;
  // The origin of time is when it is made, or what restart() says: ranks call it together after a barrier.
  void restart() { origin_ = Clock::now(); }
  std::int64_t now_ns() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - origin_).count();
  }
  void add(const TraceSpan& span) { spans_.push_back(span); }
  std::vector<TraceSpan> take() { return std::exchange(spans_, {}); }

 private:
  Clock::time_point origin_ = Clock::now();
  std::vector<TraceSpan> spans_;
};

// A span from here to the end of the scope.
class Traced {
 public:
  Traced(TraceRecorder* recorder, TracePhase phase, std::int32_t index = -1)
      : recorder_(recorder), phase_(phase), index_(index), begin_ns_(recorder == nullptr ? 0 : recorder->now_ns()) {}
  ~Traced() {
    if (recorder_ != nullptr) {
      recorder_->add({phase_, index_, begin_ns_, recorder_->now_ns()});
    }
  }
  Traced(const Traced&) = delete;
  Traced& operator=(const Traced&) = delete;

 private:
  TraceRecorder* recorder_;
  TracePhase phase_;
  std::int32_t index_;
  std::int64_t begin_ns_;
};

// The file, written as spans come and closed by the destructor: valid JSON then. Error(kStartup) when it cannot be
// made; a later failure ends the writing and is logged.
class TraceFile {
 public:
  // lanes: what each rank is called ("rank 0 on host-a").
  TraceFile(const std::filesystem::path& file, std::span<const std::string> lanes);
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  void add(int rank, std::span<const TraceSpan> spans);

 private:
  void write(const std::string& text);

  std::string name_;
  std::FILE* out_ = nullptr;
};

}  // namespace zoetrope
