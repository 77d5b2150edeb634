// Continuous batching with chunked prefill: pure bookkeeping, no clock, no network, no device. The same calls give the
// same plans. Owned by the engine thread of the leader.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/layout.h"
#include "scheduler/page_pool.h"
#include "scheduler/request.h"
#include "scheduler/step_plan.h"
#include "scheduler/waves.h"
#include "scheduler/work.h"

namespace zoetrope {

struct SchedulerLimits {
  std::int64_t context_tokens_max = 0;   // of the model (max_position_embeddings)
  std::int32_t pages_per_member = 0;     // KV pages of each ring member
  std::int64_t chunk_tokens_max = 1024;  // rows of one member in one step, decode rows included
  std::int32_t sequences_max = 64;       // running sequences of one member
  // A sequence is spread over more members while each would hold this many pages, that takes work off them (work.h) and
  // nobody waits behind it; memory may ask for more members.
  std::int32_t span_pages = 2;
  // Visual tokens of the part of a stretch that one rank decodes and encodes: what bounds the memory for pixels and
  // features.
  std::int64_t stretch_tokens = 4096;
  // And its units: a film of many tiny frames keeps decoders busy for long, and its prefill begins with the first
  // stretch.
  std::int64_t stretch_units = 32;
  // The next two stretches are decoded while this one is prefilled; else each when it is encoded. Changes no answer.
  bool look_ahead = true;
  int span_members = 0;  // not 0: every sequence spans so many members (a power of two)
  // With stages, a step is cut in at most so many waves, each of chunk_tokens_max rows of a member on average.
  int waves_max = 1;
  WaveCost wave_cost = {};
  WorkModel work = {};
  // [ring] equal for members that see each other's pages, where not all do: spans of such members alone cost what
  // host_work says. Empty: all spans cost what `work` says.
  std::vector<std::int32_t> hosts = {};
  WorkModel host_work = {};
  // While a sequence decodes, a member prefills no more in one step than a whole chunk is at this context, in tokens:
  // beyond it chunks shrink, and each costs the same.
  std::int64_t full_chunk_context = 32768;
};

// What came out of a step for one sequence.
struct Drawn {
  RequestId id{};
  std::vector<std::int32_t> tokens;  // in the order of Chunk::sampled
  bool ended = false;                // end-of-sequence or a stop string: the engine's judgement
};

enum class FinishReason { kStop, kLength, kAborted };

struct Finished {
  RequestId id{};
  FinishReason reason = FinishReason::kStop;
};

class Planner {
 public:
  Planner(Layout layout, SchedulerLimits limits);
  ~Planner();

  // Admission: nullopt, or one line that says with the numbers why the request can never run.
  std::optional<std::string> refusal(const Request& request) const;
  void submit(const Request& request);  // refusal(request) must be empty; waits in arrival order
  void cancel(RequestId id);            // waiting or running; released with the next plan
  void fail(RequestId id);              // the same, and what it computed is used for nobody else

  bool idle() const;  // nothing waits, runs or is to be released
  std::size_t waiting() const;
  std::size_t running() const;
  std::vector<std::int32_t> pages_kept() const;  // by the prefix cache alone
  std::vector<std::int32_t> pages_in_use()
      const;  // handed out or promised, of each ring member; without those only kept

  // The next step: decode rows of all running sequences first, then prefill chunks in arrival order, a part of the step
  // for those behind the first with the fewest rows left first. New sequences go to the span with the most free pages
  // (lowest first member on a tie) of those whose members pay each other least: of one host, where hosts are known.
  // Films go by stretches (stretches.h); as many tokens as two of them have are decoded ahead, and a prefill goes no
  // further than the frames that are there: others go on meanwhile. A picture or frame pair is never encoded twice.
  StepPlan plan();

  // Commits the step of the last plan(): every sampled chunk has its Drawn. Returns those that finished.
  // `pending`: units that ranks were told to decode and have not; of all others the frames are there.
  std::vector<Finished> commit(const std::vector<Drawn>& drawn, const std::vector<PendingFrames>& pending = {});

  // Between two steps: shortens a running sequence to `tokens` (prompt <= tokens <= computed so far), gives back the
  // pages beyond and goes on with `next_token` at index `tokens`.
  void truncate(RequestId id, std::int64_t tokens, std::int32_t next_token);

  std::string invariants_broken() const;  // empty, or what does not add up: pages, rows, members. For tests.

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace zoetrope
