// The loop of a replica: the leader admits and plans, every rank executes, the leader commits and tells what came out.
// Threads: intake() may be called from any thread of the leader; everything else on the thread that runs run().
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/ranks.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/engine/expert_files.h"
#include "runtime/engine/step_report.h"
#include "runtime/model/model.h"
#include "runtime/prompt/prompt.h"
#include "scheduler/planner.h"

namespace zoetrope {

struct EngineSettings {
  Precision precision = Precision::kBf16;
  std::string body;                      // empty: the best of this CPU
  int threads = 0;                       // per rank; 0: cores of the affinity mask over the ranks that share it
  std::int64_t kv_bytes_per_rank = 0;    // 0: chosen from the memory that is free, said in the log
  std::int64_t context_tokens_max = 0;   // 0: the model's
  std::int64_t chunk_tokens_max = 1024;
  std::int32_t sequences_max = 64;
  std::int64_t stretch_tokens = 0;       // visual tokens that a rank decodes and encodes at once; 0: by their memory
  bool look_ahead = true;                // films are decoded while others are computed; changes no answer
  int span_members = 0;                  // ring members that every sequence spans, a power of two; 0: chosen for each
  int waves_max = 0;                     // of a step, with stages; 0: 4 for each stage
  RingPass ring_pass = RingPass::kLeastTime;
  RingTransport ring_transport = RingTransport::kAuto;
  std::int32_t span_pages =
      SchedulerLimits{}.span_pages;  // a sequence takes idle members while each would hold so many and it pays
  std::int64_t full_chunk_context =
      SchedulerLimits{}.full_chunk_context;  // tokens; longer prefills yield to those who decode
  std::optional<WorkModel> work;         // what rows and pages cost; left out: by the model and the rates of this ring
  bool prefix_cache = true;              // prompts that begin alike share what is computed of their beginning
  ExpertSettings experts;
  ReportSettings report;
};

// What a request gives back while it runs, in order, on the engine thread.
struct TokenEvent {
  RequestId id{};
  std::string text;                      // complete code points only, may be empty
  Sampled token;                         // with log-probabilities when asked for
  bool last = false;
  FinishReason reason = FinishReason::kStop;
};

// Everything known of a finished request.
struct Answer {
  std::string text;                      // without the stop string
  std::vector<Sampled> tokens;           // every drawn token, the end-of-sequence token included
  FinishReason reason = FinishReason::kStop;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;        // of them: computed for another request before
  int members = 0, growths = 0;          // ring members that held its pages at the end, and how often they became more
  std::uint64_t seed = 0;
  std::vector<MediaReport> media;
  double queue_seconds = 0, encode_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
  // Films and pictures to patches: wall time with a decoder at work (of the slowest rank in each step), the part of it
  // in which nothing else went on, CPU time of all decoders of all ranks.
  double film_decode_seconds = 0, film_wait_seconds = 0, film_cpu_seconds = 0;
  std::string error;                     // empty, or why this request failed
};

struct RequestCallbacks {
  std::function<void(const TokenEvent&)> event;             // may be empty
  std::function<void(std::int64_t done, std::int64_t total)> prefill_progress;  // prompt tokens; may be empty
  std::function<void(Answer)> done;
};

class Engine {
 public:
  // Loads the model on every rank. Collective.
  Engine(const std::filesystem::path& checkpoint, Ranks& ranks, const EngineSettings& settings,
         std::function<void(double)> load_progress);
  ~Engine();

  const PromptWriter& prompt_writer() const;
  const GenerationConfig& generation() const;
  const ModelConfig& config() const;
  std::string fingerprint() const;  // what the bits depend on: checkpoint digest, precision, constants, arithmetic path
  std::string described() const;         // "avx2, 2 threads, bf16, ring 2 x tp 1": for reports

  // Leader, any thread: a prompt that is ready. Refused at once (callbacks.done with an error) when it can never run.
  RequestId submit(ChatRequest request, Prompt prompt, RequestCallbacks callbacks);
  void cancel(RequestId id);
  // Leader, any thread: no more requests will come; run() returns when all are done.
  void finish();

  // Every rank. Returns after finish() when nothing is left. Error(kCluster) ends the job.
  void run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace zoetrope
