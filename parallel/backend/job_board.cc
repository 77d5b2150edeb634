#include "parallel/backend/job_board.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "monitoring/check.h"
#include "monitoring/error.h"

namespace zoetrope {
namespace {

constexpr std::size_t kReasonBytes = 1000;
enum : std::uint32_t { kRunning = 0, kStopping = 1, kStopped = 2 };  // kStopped: the reason can be read

static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "the board is shared between processes");

}  // namespace

// Zero bytes are a valid board: nobody stopped, nobody waits, nobody reports.
struct JobBoard::Shared {
  std::atomic<std::uint32_t> state;
  std::atomic<std::uint32_t> reported;
  std::uint32_t stopped_by;
  std::uint32_t reason_bytes;
  std::array<char, kReasonBytes> reason;
  // Followed by one of these per rank: 1 + the rank it waits for, 0 for none.
  std::atomic<std::uint32_t>* waits() { return reinterpret_cast<std::atomic<std::uint32_t>*>(this + 1); }
};

std::size_t JobBoard::bytes(int ranks) {
  return sizeof(Shared) + static_cast<std::size_t>(ranks) * sizeof(std::atomic<std::uint32_t>);
}

JobBoard::JobBoard(std::span<std::byte> memory, int ranks)
    : shared_(reinterpret_cast<Shared*>(memory.data())), ranks_(ranks) {
  check(memory.size() >= bytes(ranks), "a job board has room for its ranks");
}

void JobBoard::stop(int rank, std::string_view why) noexcept {
  std::uint32_t expected = kRunning;
  if (!shared_->state.compare_exchange_strong(expected, kStopping)) {
    return;
  }
  const std::size_t length = std::min(why.size(), kReasonBytes);
  std::memcpy(shared_->reason.data(), why.data(), length);
  shared_->reason_bytes = static_cast<std::uint32_t>(length);
  shared_->stopped_by = static_cast<std::uint32_t>(rank);
  shared_->state.store(kStopped);
}

bool JobBoard::stopped() const noexcept { return shared_->state.load(std::memory_order_acquire) != kRunning; }

int JobBoard::stopped_by() const noexcept {
  return shared_->state.load(std::memory_order_acquire) == kStopped ? static_cast<int>(shared_->stopped_by) : -1;
}

std::string JobBoard::reason() const {
  // Between kStopping and kStopped another rank copies its words; one that was killed there leaves none.
  for (int tries = 0; tries < 1000 && shared_->state.load(std::memory_order_acquire) == kStopping; ++tries) {
    std::this_thread::yield();
  }
  if (shared_->state.load(std::memory_order_acquire) != kStopped) {
    return "another rank stopped the job";
  }
  return fmt::format("rank {} stopped the job: {}", shared_->stopped_by,
                     std::string_view(shared_->reason.data(), shared_->reason_bytes));
}

void JobBoard::throw_if_stopped() const {
  if (stopped()) {
    throw Error(Radius::kCluster, reason());
  }
}

void JobBoard::set_waits_for(int rank, int missing) noexcept {
  shared_->waits()[rank].store(static_cast<std::uint32_t>(missing + 1), std::memory_order_relaxed);
}

std::string JobBoard::blamed(int missing) const {
  std::string text = fmt::format("rank {}", missing);
  std::vector<bool> seen(static_cast<std::size_t>(ranks_), false);
  int at = missing;
  while (!seen[static_cast<std::size_t>(at)]) {
    seen[static_cast<std::size_t>(at)] = true;
    const int next = static_cast<int>(shared_->waits()[at].load(std::memory_order_relaxed)) - 1;
    if (next < 0 || next >= ranks_ || seen[static_cast<std::size_t>(next)]) {
      break;
    }
    text += fmt::format(", which waits for rank {}", next);
    at = next;
  }
  return text;
}

bool JobBoard::claim_report() noexcept { return shared_->reported.exchange(1) == 0; }

bool JobBoard::report_claimed() const noexcept { return shared_->reported.load() != 0; }

}  // namespace zoetrope
