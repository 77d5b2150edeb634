// Pages of a sequence whose span grows, on their way to their new owners while the step that follows is computed: layer
// after layer, in the order in which the layers need them. By messages the pages of a few layers are under way at a
// time; members that share their pools copy a layer's pages when its turn comes. Owned by the engine thread of a rank.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "kernels/compute.h"
#include "parallel/communicator.h"
#include "parallel/span.h"
#include "runtime/model/model.h"

namespace zoetrope {

struct PageMove {
  int from = 0, to = 0;                 // members
  std::int32_t source = 0, target = 0;  // ids there
  bool written = false;  // rows of this step go into it: members that share pools store them straight into the target
};

class PageMoves {
 public:
  // All outlive the object. `ring`: the members, rank = member.
  PageMoves(const KvCache& cache, int layers, Communicator& ring, const Compute& compute);
  PageMoves(const PageMoves&) = delete;
  PageMoves& operator=(const PageMoves&) = delete;

  // Sends the pages on their way; nothing else is. `span`: the wider one. Every member is given the same moves; none
  // both gives and takes. Nobody writes to the sources before every member has finished; where they travel by messages,
  // before their owner has. `by_messages`: also where the members share their pools.
  void begin(const Span& span, std::vector<PageMove> moves, bool by_messages);
  // The targets in `layer` hold what they shall. Called by every member at the same point of every layer, in ascending
  // order; a second time it does nothing.
  void arrive(int layer);
  // Moves messages under way; cheap, between layers.
  void poll();
  // The same for Compute::between, null when nothing is under way by messages.
  const std::function<void()>* between() const { return under_way_.empty() ? nullptr : &between_; }
  // All layers have arrived, and the messages of this member are gone.
  void finish();

  int layers_under_way() const { return static_cast<int>(under_way_.size()); }

 private:
  void post_before(int end);
  void post(int layer);
  void copy(int layer, bool written);

  const KvCache& cache_;
  int layers_;
  Communicator& ring_;
  Compute compute_;
  std::function<void()> between_;
  std::chrono::steady_clock::time_point next_poll_{};
  std::vector<PageMove> own_;  // those that this member gives or takes
  bool gives_ = false, copies_ = false;
  int next_, posted_ = 0;           // layers: the next to arrive, `layers_` when all have; the next to be posted
  std::deque<Exchange> under_way_;  // of the layers before posted_, oldest first
};

}  // namespace zoetrope
