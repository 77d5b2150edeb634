// What a rank does, noted for those who outlive it (phase_note.h), and what it did when: spans of the phases of its
// steps, gathered by the leader into a Chrome trace (JSON) that chrome://tracing and Perfetto open, one lane per rank.
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

#include "monitoring/phase_note.h"

namespace zoetrope {

enum class TracePhase : std::int32_t {
  kStart,             // of MPI
  kRun,               // between the other phases
  kLoad,              // the checkpoint
  kIdle,              // waiting for requests or for the plan of a step
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
  kCollect,           // what a step gave, to the leader
  kCount,
};
std::string_view name_of(TracePhase phase);

struct TraceSpan {
  TracePhase phase = TracePhase::kStep;
  std::int32_t index = -1;                // layer, or step of the rank; -1: none
  std::int64_t begin_ns = 0, end_ns = 0;  // since the recorder's origin
};

// What a rank was doing when its note was written last: "'ring', layer 3, step 12".
std::string described(const PhaseNote& note);

// The phases of one rank: each is noted while it lasts, and kept as a span where that is asked for. One thread.
class TraceRecorder {
 public:
  using Clock = std::chrono::steady_clock;
  explicit TraceRecorder(PhaseNote* note = nullptr, bool keeps_spans = true) : note_(note), keeps_(keeps_spans) {}

  bool keeps_spans() const { return keeps_; }
  // Begins a phase; gives what leave() is to go back to.
  std::uint64_t enter(TracePhase phase, std::int32_t index);
  void leave(std::uint64_t before);

  // The origin of time is when it is made, or what restart() says: ranks call it together after a barrier.
  void restart() { origin_ = Clock::now(); }
  std::int64_t now_ns() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - origin_).count();
  }
  void add(const TraceSpan& span) { spans_.push_back(span); }
  std::vector<TraceSpan> take() { return std::exchange(spans_, {}); }

 private:
  PhaseNote* note_;
  bool keeps_;
  Clock::time_point origin_ = Clock::now();
  std::vector<TraceSpan> spans_;
};

// A span from here to the end of the scope.
class Traced {
 public:
  Traced(TraceRecorder* recorder, TracePhase phase, std::int32_t index = -1);
  ~Traced();
  Traced(const Traced&) = delete;
  Traced& operator=(const Traced&) = delete;

 private:
  TraceRecorder* recorder_;
  TracePhase phase_;
  std::int32_t index_;
  std::uint64_t before_;
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
