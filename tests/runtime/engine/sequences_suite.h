// Random token sequences through planner and step runner over any ranks: every position of every one is drawn from,
// with the likeliest tokens beside, and must be what one rank makes of it, bit for bit. One suite over threads and over
// MPI.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/sample.h"
#include "parallel/ranks.h"
#include "runtime/engine/step_runner.h"
#include "scheduler/planner.h"

namespace zoetrope::test {

// A sequence of random tokens.
struct Length {
  std::int64_t prompt_tokens = 0, new_tokens = 0;
};

// How a number of sequences is computed.
struct Way {
  Layout layout = {};
  Precision precision = Precision::kBf16;
  RingTransport transport = RingTransport::kAuto;
  RingPass pass = RingPass::kFewestBytes;
  int expert_groups = 0;  // 0: as many as ranks
  SchedulerLimits limits = {};
  bool shares = false;  // all begin with the same tokens
  bool cached = false;  // and with the same pages

  std::string described() const;
};
// Every sequence over so many members of the ring; 0: as it comes.
Way way(const Layout& layout, int span_members = 0);

struct Outcome {
  std::vector<std::vector<Sampled>> drawn;  // of each sequence, by position
  std::vector<int> grown;                   // members of every growth
  std::int64_t cached_tokens = 0;
};
// Collective; complete on every rank.
Outcome outcome_of(Ranks& ranks, const std::string& checkpoint, const Way& way, const std::vector<Length>& lengths);

// Runs a body on the ranks of a layout: run_ranks(), or those of an MPI job.
using RunRanks = std::function<void(const Layout&, const std::function<void(Ranks&)>&)>;

// Asserts, at rank 0, that `way` gives the bits of one rank; returns what it was.
Outcome expect_bits_of_one(const RunRanks& run, const std::string& checkpoint, const Way& way,
                           const std::vector<Length>& lengths);

// By both transports, over the 2 or 4 members of the layout's ring: growths at awkward lengths, with no place left but
// those of the pages that move, and of a prefill that takes idle members, whose pages travel under the step.
void check_growths(const RunRanks& run, const Layout& layout);

}  // namespace zoetrope::test
