// How a step is cut in waves that flow through the stages of a pipeline one behind the other: pure arithmetic.
#pragma once

#include <cstdint>
#include <vector>

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

// Share of its time in which a stage has nothing to do while equal waves fill the pipe and drain it.
constexpr double bubble(int stages, int waves) {
  return static_cast<double>(stages - 1) / static_cast<double>(waves + stages - 1);
}

}  // namespace zoetrope
