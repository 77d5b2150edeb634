// How a step is cut in waves that flow through the stages of a pipeline one behind the other: pure arithmetic.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "scheduler/step_plan.h"

namespace zoetrope {

// What one stage takes for a wave, in units of one row without context:
//   fixed + sum over rows of (1 + context * tokens up to and with the row)
struct WaveCost {
  double fixed = 0;    // whatever the rows are: reading the weights
  double context = 0;  // of one row and one token of its context
};

// Rows [first, first + rows) of a sequence, without the fixed part.
double rows_cost(const WaveCost& cost, std::int64_t first, std::int64_t rows);

// Cuts tokens [first, first + tokens) in at most `parts` consecutive chunks that cost the same, up to whole rows: a row
// late in the context costs more, so chunks shrink. Their sum is `tokens`; fewer tokens than parts give chunks of one.
std::vector<std::int64_t> equal_chunks(const WaveCost& cost, std::int64_t first, std::int64_t tokens, int parts);

// In how many waves, 1 to `most`, a step that costs `work` (without fixed parts) leaves the last of `stages` soonest:
// (waves + stages - 1) turns of fixed + work / waves each.
int best_waves(const WaveCost& cost, double work, int stages, int most);

// The most rows from token `first` whose cost does not exceed `budget`, at least 1.
std::int64_t rows_within(const WaveCost& cost, std::int64_t first, double budget);

struct Pipeline {
  int stages = 1;
  int waves_max = 1;             // of a step
  std::int64_t rows_max = 1024;  // of a member in a wave on average: more rows ask for more waves
  WaveCost cost = {};
};

// Gives the chunks of a step their waves. A long chunk is cut in pieces of equal cost for consecutive waves, short ones
// and decoding rows go where least is to do; new pages, sampled rows and the order of a sequence's rows stay what they
// were. `span_of`: where a sequence lives; `ring`: members.
std::vector<Chunk> cut_in_waves(std::vector<Chunk> chunks, const Pipeline& pipeline, int ring,
                                const std::function<const Span&(RequestId)>& span_of);

// Share of its time in which a stage has nothing to do while equal waves fill the pipe and drain it.
constexpr double bubble(int stages, int waves) {
  return static_cast<double>(stages - 1) / static_cast<double>(waves + stages - 1);
}

}  // namespace zoetrope
