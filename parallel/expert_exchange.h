// Tokens to the ranks that hold their experts and the experts' outputs home again: dropless dispatch and combine.
// One-answer rule 3: a token goes once to each rank that needs it, comes back once per expert, and is summed at home.
// Own tokens and own outputs stay where they were written; only what crosses ranks is copied.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/compute.h"
#include "kernels/tensor.h"
#include "parallel/communicator.h"
#include "parallel/expert_placement.h"
#include "parallel/grow_only.h"

namespace zoetrope {

// One dispatch is answered by one combine. A layer's step: fill own_rows(), dispatch(), fill outputs(), combine().
class ExpertExchange {
 public:
  // Ranks of the placement are ranks of `comm`.
  ExpertExchange(Communicator& comm, const Compute& compute, std::int64_t hidden, ExpertPlacement placement);

  // Where the tokens that live here are to be written before their dispatch: [tokens, H].
  Rows<float> own_rows(std::int64_t tokens);

  // What this rank's experts have to compute after a dispatch.
  struct Arrived {
    Rows<const float> x;                              // [tokens, H]: own_rows(), then each token that came, once
    std::span<const std::vector<std::int32_t>> rows;  // per local expert (ascending): rows of x, ascending
    std::span<const std::int64_t> first;              // per local expert: its first row in the experts' outputs
    std::int64_t outputs = 0;                         // rows of outputs in total
    std::vector<std::int64_t> outputs_by_rank;        // of these, how many go home to each rank
  };

  // experts [T, k] (distinct per row) of the tokens in own_rows(T); T may be 0, every rank joins. `layer` names the
  // table of the placement, the same on every rank.
  const Arrived& dispatch(Rows<const std::int32_t> experts, int layer = 0);

  // Where the local experts' outputs are to be written before their combine: [Arrived::outputs, H]. In bf16 mode bf16
  // numbers, but for shards of experts, whose partials are fp32.
  Rows<float> outputs();

  // The outputs travel home: row slots(t, j) is the output of token t's j-th expert. Views are valid until the next
  // dispatch.
  struct Home {
    Rows<float> outputs;             // [outputs() and what came, H]
    Rows<const std::int32_t> slots;  // [T, k]
  };
  Home combine();

  // Bytes this rank sends for a routing, in closed form: payload only and with the headers that travel with it. With b
  // = 2 bytes a value in bf16 mode and 4 in fp32 mode, i = 1 byte for an expert's index among its rank's (2 where a
  // rank has more than 256), n_r tokens of ours that need rank r and p_r pairs (token, expert) there:
  //   dispatch payload  sum over other ranks r of n_r * hidden * b
  //   dispatch headers  sum over other ranks r of 8 (the counts, always) + n_r + i * p_r (the routing list)
  //   combine payload   sum over other ranks r of arrived_outputs_by_rank[r] * hidden * b, with b = 4 for shards of
  //                     experts: fp32 partials, which meet at home
  // A token is sent at most once to a rank; an own token is not sent. Summed over ranks, the payloads are the least
  // that rule 3 allows.
  struct ClosedForm {
    std::uint64_t dispatch_payload = 0, dispatch_headers = 0, combine_payload = 0;
    std::uint64_t payload() const { return dispatch_payload + combine_payload; }
    std::uint64_t total() const { return payload() + dispatch_headers; }
  };
  ClosedForm closed_form(Rows<const std::int32_t> experts, std::span<const std::int64_t> arrived_outputs_by_rank,
                         int layer = 0) const;

 private:
  struct Counts {
    std::uint32_t tokens = 0;
    std::uint32_t pairs = 0;
  };
  // Where this rank's tokens find an expert.
  struct Route {
    std::uint16_t rank = 0;
    std::uint16_t local = 0;  // index among the experts of that rank
  };
  struct Table {
    std::vector<Route> routes;  // [E]
    std::size_t own_experts = 0;
    std::size_t index_bytes = 1;  // of a local index on the wire
  };
  // What goes from this rank to one peer, or comes; for the own rank both directions are the same list.
  struct Leg {
    Counts counts;
    GrowOnly<std::byte> list;  // wire form: for each token the number of its experts there, then their local indices
    std::size_t list_bytes = 0;
    std::vector<std::int32_t> tokens;  // outgoing: which own tokens
  };
  struct Copy {
    const float* from = nullptr;
    std::byte* to = nullptr;
  };

  int ranks() const { return comm_.size(); }
  std::size_t own() const { return static_cast<std::size_t>(comm_.rank()); }
  // Whether rows travel as bf16, out and home, and what one takes then.
  bool narrow_out() const { return compute_.precision == Precision::kBf16; }
  bool narrow_home() const { return narrow_out() && placement_.shards == 1; }
  std::size_t row_bytes(bool narrow) const { return static_cast<std::size_t>(hidden_) * (narrow ? 2 : 4); }

  void deal(Rows<const std::int32_t> experts);
  void note(Leg& leg, std::int64_t token, std::int64_t& last_token, std::size_t& count_at, std::uint16_t local);
  void swap_counts();
  void swap_tokens();
  void take_routing(int from, std::int64_t first_row);
  void place_outputs();
  void pack(bool narrow);
  void widen(const std::byte* wire, std::int64_t rows, float* to);

  Communicator& comm_;
  Compute compute_;
  std::int64_t hidden_;
  ExpertPlacement placement_;
  std::vector<Table> tables_;
  const Table* table_ = nullptr;  // of the dispatch under way

  // Of the dispatch under way, kept for its combine; memory is kept from call to call.
  std::vector<Leg> out_, in_;   // [ranks]
  std::vector<Counts> counts_;  // [ranks] received
  std::vector<SendPart> sends_;
  std::vector<ReceivePart> receives_;
  std::vector<Copy> copies_;
  std::vector<std::int64_t> last_token_;               // [ranks] cursors of deal()
  std::vector<std::size_t> count_at_;                  // [ranks]
  std::vector<std::vector<std::int32_t>> local_rows_;  // [own experts, most of all tables]
  std::vector<std::int64_t> local_first_;
  std::vector<std::int32_t> pair_expert_, pair_index_;  // per arrived pair, in order of arrival
  GrowOnly<float> x_, home_;                            // own tokens, then others'; own outputs, then others'
  GrowOnly<std::byte> wire_out_, wire_in_;
  GrowOnly<std::int32_t> slots_;
  std::int64_t tokens_ = 0, k_ = 0;
  std::int64_t away_ = 0;  // pairs of own tokens that other ranks answer
  Arrived arrived_;
};

}  // namespace zoetrope
