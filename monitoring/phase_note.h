// What a rank is doing right now, in memory that another process reads even after the rank has died. Lock-free; zero
// bytes are a valid note.
#pragma once

#include <atomic>
#include <cstdint>

namespace zoetrope {

class PhaseNote {
 public:
  struct Phase {
    std::int32_t phase = 0, index = -1;  // a TracePhase and its layer, or -1
  };

  // Returns what go_back() takes.
  std::uint64_t enter(std::int32_t phase, std::int32_t index) noexcept {
    const std::uint64_t before = now_.load(std::memory_order_relaxed);
    now_.store(std::uint64_t{static_cast<std::uint32_t>(index + 1)} << 32 | static_cast<std::uint32_t>(phase),
               std::memory_order_relaxed);
    return before;
  }
  void go_back(std::uint64_t before) noexcept { now_.store(before, std::memory_order_relaxed); }
  void begin_step(std::int64_t step) noexcept { steps_.store(step + 1, std::memory_order_relaxed); }

  Phase now() const noexcept {
    const std::uint64_t both = now_.load(std::memory_order_relaxed);
    return {static_cast<std::int32_t>(both & 0xffffffff), static_cast<std::int32_t>(both >> 32) - 1};
  }
  std::int64_t step() const noexcept { return steps_.load(std::memory_order_relaxed) - 1; }  // -1: none began

 private:
  std::atomic<std::uint64_t> now_{0};   // 1 + index, phase
  std::atomic<std::int64_t> steps_{0};  // 1 + step
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a note is read by other processes");

}  // namespace zoetrope
