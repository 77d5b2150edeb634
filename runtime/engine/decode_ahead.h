// Pictures and frame pairs decoded, resized and cut into patches on threads of their own, while the rank computes. What
// is decoded, and when, is said by add(): nothing is decoded that was not announced, so the memory for pixels is
// bounded by what the plan announces (planner.h: two stretches beside the one that is being encoded).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/prompt/prompt.h"
#include "scheduler/request.h"
#include "scheduler/step_plan.h"

namespace zoetrope {

class DecodeAhead {
 public:
  using Media = std::shared_ptr<const std::vector<Medium>>;  // of one request

  // decoders >= 1: threads, each with at most one film open. Those of a request's films with large frames are fewer, so
  // that decoders stay within 128 MiB or one.
  explicit DecodeAhead(int decoders);
  ~DecodeAhead();  // stops within a packet and joins
  DecodeAhead(const DecodeAhead&) = delete;
  DecodeAhead& operator=(const DecodeAhead&) = delete;

  // Units of a request in the order in which they are decoded, behind what was announced before.
  void add(RequestId id, const Media& media, std::int32_t unit, const VisualUnit& visual);

  // The patches [P, 1536] of a unit as bytes (patches.h), once; waits until they are there. Error(kRequest) naming
  // film, frame and time; what follows in that request fails with the same words.
  std::vector<std::uint8_t> take(RequestId id, std::int32_t unit);
  // The memory of patches that were taken, for a unit that is decoded later: where a thread frees what another has
  // allocated, a while later and between what stays, the allocator keeps more than twice of what is held.
  void give_back(std::vector<std::uint8_t> patches);

  // True: from the next units on, decoders get as much of the cores as arithmetic; false: what it leaves.
  void hurry(bool now);

  struct UnitName {
    RequestId id{};
    std::int32_t unit = 0;
  };
  std::vector<UnitName> decoded() const;       // and not taken, in the order in which they were announced
  std::vector<PendingFrames> pending() const;  // of each request, the first unit that is not decoded
  // Waits until there are not `before` units that are decoded and not taken, or until `deadline`.
  void wait_for_more(std::size_t before, std::chrono::steady_clock::time_point deadline);

  // Forgets all units of a request that were not taken.
  void drop(RequestId id);

  struct Times {
    double busy_seconds = 0;    // wall time during which at least one decoder worked
    double cpu_seconds = 0;     // of all decoders
    double waited_seconds = 0;  // in take() and wait_for_more()
  };
  Times take_times();  // since the last call

  std::int64_t held_bytes_max() const;  // most bytes of decoded patches that ever waited
  std::int64_t reused_units() const;    // decoded into memory that was given back
  std::int64_t spare_bytes() const;     // of memory that was given back and waits for units to come

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace zoetrope
