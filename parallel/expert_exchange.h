// Tokens to the ranks that hold their experts and the experts' outputs home again: dropless dispatch and combine.
// One-answer rule 3: a token goes once to each rank that needs it, comes back once per expert, and is summed at home.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/communicator.h"
#include "parallel/grow_only.h"

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
    Rows<const float> x;                          // [R, H] tokens, each once, own ones included
    std::vector<std::vector<std::int32_t>> rows;  // per local expert (ascending): rows of x, ascending
    std::vector<std::int64_t> first;              // per local expert: its first row in the experts' outputs
    std::int64_t outputs = 0;                     // rows of outputs in total
    std::vector<std::int64_t> outputs_by_rank;    // of these, how many go home to each rank
  };

  // x [T, H] and experts [T, k] (distinct per row) of the tokens that live here; T may be 0, every rank joins.
  const Arrived& dispatch(Rows<const float> x, Rows<const std::int32_t> experts);

  // outputs [Arrived::outputs, H] of the local experts travel home. Returns home rows: row slots(t, j) is the output of
  // token t's j-th expert. Views are valid until the next dispatch.
  struct Home {
    Rows<const float> outputs;       // [T * k, H]
    Rows<const std::int32_t> slots;  // [T, k]
  };
  Home combine(Rows<const float> outputs);

  // Bytes this rank sends for a routing, in closed form: payload only and with the headers that travel with it. With b
  // = 2 bytes a value in bf16 mode and 4 in fp32 mode, n_r tokens of ours that need rank r and p_r pairs (token,
  // expert) there:
  //   dispatch payload  sum over other ranks r of n_r * hidden * b
  //   dispatch headers  sum over other ranks r of 8 (the counts, always) + n_r + 2 * p_r (the routing list)
  //   combine payload   sum over other ranks r of arrived_outputs_by_rank[r] * hidden * b
  // A token is sent at most once to a rank; an own token is not sent.
  struct ClosedForm {
    std::uint64_t dispatch_payload = 0, dispatch_headers = 0, combine_payload = 0;
  };
  ClosedForm closed_form(Rows<const std::int32_t> experts, std::span<const std::int64_t> arrived_outputs_by_rank) const;

 private:
  struct Counts {
    std::uint32_t tokens = 0;
    std::uint32_t pairs = 0;
  };
  // Tokens between this rank and one peer, in one direction; for the own rank both directions are the same list.
  struct Leg {
    Counts counts;
    GrowOnly<std::uint16_t>
        routing;               // wire form: the pairs' local experts [pairs], then experts per token as bytes [tokens]
    GrowOnly<std::byte> rows;  // packed rows on the wire: tokens, later outputs
  };

  int ranks() const { return comm_.size(); }
  std::size_t value_bytes() const { return precision_ == Precision::kBf16 ? 2 : 4; }
  std::size_t row_bytes() const { return static_cast<std::size_t>(hidden_) * value_bytes(); }
  bool narrow() const { return precision_ == Precision::kBf16; }

  void count(Rows<const std::int32_t> experts);
  void deal(Rows<const float> x, Rows<const std::int32_t> experts);
  void swap_counts();
  void swap_tokens();
  void unpack(Rows<const float> x);
  void take_routing(int from, std::int64_t first_row);

  Communicator& comm_;
  ExpertTable table_;
  std::int64_t hidden_;
  Precision precision_;
  std::vector<std::uint16_t> local_;  // [E] index of an expert among its rank's experts
  std::size_t own_experts_ = 0;

  // Of the dispatch under way, kept for its combine; memory is kept from call to call.
  std::vector<Leg> out_, in_;   // [ranks]
  std::vector<Counts> counts_;  // [ranks] received
  std::vector<SendPart> sends_;
  std::vector<ReceivePart> receives_;
  std::vector<std::int32_t> own_tokens_;           // tokens that need this rank itself
  std::vector<std::int64_t> home_first_, filled_;  // [ranks] first home row of a rank's outputs; cursors
  std::vector<std::pair<std::int32_t, std::int32_t>>
      pairs_;  // per arrived pair, in order of arrival: local expert, index in rows
  GrowOnly<float> x_, home_;
  GrowOnly<std::int32_t> slots_;
  std::int64_t tokens_ = 0, k_ = 0;
  Arrived arrived_;
};

}  // namespace zoetrope
