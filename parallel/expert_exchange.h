// Tokens to the ranks that hold their experts and the experts' outputs home again: dropless dispatch and combine.
// One-answer rule 3: a token goes once to each rank that needs it, comes back once per expert, and is summed at home.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/communicator.h"

namespace zoetrope {

// expert -> rank, a table: contiguous shards by default, free to be any.
struct ExpertTable {
  std::vector<int> rank_of;  // [E]

  static ExpertTable contiguous(int experts, int ranks);  // Error(kStartup) unless ranks <= experts
  std::vector<int> experts_of(int rank) const;            // ascending
};

class ExpertExchange {
 public:
  ExpertExchange(Communicator& comm, ExpertTable table, std::int64_t hidden, Precision precision);

  // What this rank's experts have to compute after a dispatch.
  struct Arrived {
    Rows<const float> x;                               // [R, H] tokens, each once, own ones included
    std::vector<std::vector<std::int32_t>> rows;       // per local expert (ascending): rows of x, ascending
    std::vector<std::int64_t> first;                   // per local expert: its first row in the experts' outputs
    std::int64_t outputs = 0;                          // rows of outputs in total
  };

  // x [T, H] and experts [T, k] (distinct per row) of the tokens that live here; T may be 0, every rank joins.
  const Arrived& dispatch(Rows<const float> x, Rows<const std::int32_t> experts);

  // outputs [Arrived::outputs, H] of the local experts travel home. Returns home rows: row slots(t, j) is the output of
  // token t's j-th expert. Views are valid until the next dispatch.
  struct Home {
    Rows<const float> outputs;        // [T * k, H]
    Rows<const std::int32_t> slots;   // [T, k]
  };
  Home combine(Rows<const float> outputs);

  // Bytes this rank sends for a routing, in closed form: payload only and with the headers that travel with it.
  struct ClosedForm {
    std::uint64_t dispatch_payload = 0, dispatch_headers = 0, combine_payload = 0;
  };
  ClosedForm closed_form(Rows<const std::int32_t> experts, std::span<const std::int64_t> arrived_outputs_by_rank) const;

 private:
  Communicator& comm_;
  ExpertTable table_;
  std::int64_t hidden_;
  Precision precision_;
};

}  // namespace zoetrope
