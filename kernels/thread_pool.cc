#include "kernels/thread_pool.h"

#include <fmt/format.h>
#include <immintrin.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "monitoring/check.h"
#include "monitoring/error.h"

namespace zoetrope {
namespace {

// A member that finds nothing to do looks for this long before it sleeps: longer than the gap between two ops of a
// step, shorter than a scheduler slice, so a neighbour on the same core loses little.
constexpr auto kSpin = std::chrono::microseconds(100);

constexpr unsigned kFlushToZero = 0x8000;
constexpr unsigned kDenormalsAreZero = 0x0040;
constexpr unsigned kRoundingMode = 0x6000;  // both bits clear: to nearest, ties to even

// True as soon as `ready` holds, false when the spin time is over.
template <typename Ready>
bool spin_until(Ready ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (ready()) {
        return true;
      }
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

}  // namespace

void set_fp_environment() {
  _mm_setcsr((_mm_getcsr() & ~kRoundingMode) | kFlushToZero | kDenormalsAreZero);
}

FpEnvironment::FpEnvironment() : before_(_mm_getcsr()) { set_fp_environment(); }
FpEnvironment::~FpEnvironment() { _mm_setcsr(before_); }

bool fp_environment_is_set() {
  return (_mm_getcsr() & (kRoundingMode | kFlushToZero | kDenormalsAreZero)) == (kFlushToZero | kDenormalsAreZero);
}

// One job at a time. A worker enters a job by counting itself into `gate` while the job is open, and the caller returns
// when it has closed the gate and nobody is inside: a worker that sleeps through a short job is never waited for.
struct ThreadPool::State {
  static constexpr std::uint64_t kOpen = std::uint64_t{1} << 32;       // bit 32; bits 0..31 count the workers inside
  static constexpr std::uint64_t kJobStep = std::uint64_t{1} << 33;    // bits 33..63 number the job
  static constexpr std::uint64_t kInsideMask = kOpen - 1;

  std::vector<std::thread> workers;
  alignas(64) std::atomic<std::uint64_t> gate{0};
  alignas(64) std::atomic<std::int64_t> next_piece{0};
  // Written by the caller while the gate is closed and empty, read by those who entered.
  std::int64_t pieces = 0;
  Call call = nullptr;
  void* context = nullptr;

  alignas(64) std::atomic<bool> stopping{false};
  std::atomic<int> sleepers{0};
  std::atomic<bool> caller_sleeps{false};
  std::mutex mutex;
  std::condition_variable job_opened;
  std::condition_variable all_left;
  std::exception_ptr failure;  // the first; guarded by mutex
  std::atomic<bool> busy{false};  // between the start and the end of run()

  static std::uint64_t job_of(std::uint64_t gate_value) { return gate_value / kJobStep; }

  void draw_pieces(int member) {
    try {
      for (std::int64_t piece = next_piece.fetch_add(1, std::memory_order_relaxed); piece < pieces;
           piece = next_piece.fetch_add(1, std::memory_order_relaxed)) {
        call(context, piece, member);
      }
    } catch (...) {
      next_piece.store(pieces, std::memory_order_relaxed);
      const std::lock_guard lock(mutex);
      if (!failure) {
        failure = std::current_exception();
      }
    }
  }

  // The number of a job that is open and not `last_job`, or waits for one. 0 when the pool stops.
  bool enter(std::uint64_t& last_job) {
    while (!stopping.load()) {
      std::uint64_t seen = gate.load();
      if ((seen & kOpen) != 0 && job_of(seen) != last_job) {
        if (gate.compare_exchange_weak(seen, seen + 1)) {
          last_job = job_of(seen);
          return true;
        }
        continue;
      }
      const auto news = [&] {
        const std::uint64_t now = gate.load();
        return stopping.load() || ((now & kOpen) != 0 && job_of(now) != last_job);
      };
      if (!spin_until(news)) {
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        job_opened.wait(lock, news);
        sleepers.fetch_sub(1);
      }
    }
    return false;
  }

  void leave() {
    const std::uint64_t before = gate.fetch_sub(1);
    if ((before & kInsideMask) == 1 && caller_sleeps.load()) {
      const std::lock_guard lock(mutex);
      all_left.notify_one();
    }
  }

  void work(int member) {
    set_fp_environment();
    std::uint64_t last_job = 0;
    while (enter(last_job)) {
      draw_pieces(member);
      leave();
    }
  }

  void open() {
    gate.store((job_of(gate.load()) + 1) * kJobStep + kOpen);
    if (sleepers.load() > 0) {
      const std::lock_guard lock(mutex);
      job_opened.notify_all();
    }
  }

  void close_and_wait() {
    gate.fetch_and(~kOpen);
    const auto empty = [&] { return (gate.load() & kInsideMask) == 0; };
    if (!spin_until(empty)) {
      std::unique_lock lock(mutex);
      caller_sleeps.store(true);
      all_left.wait(lock, empty);
      caller_sleeps.store(false);
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  check(threads >= 1, "a thread pool of no threads");
  set_fp_environment();
  state_->workers.reserve(static_cast<std::size_t>(threads - 1));
  try {
    for (int member = 1; member < threads; ++member) {
      state_->workers.emplace_back([state = state_.get(), member] { state->work(member); });
    }
  } catch (const std::system_error& failure) {
    const std::size_t started = state_->workers.size() + 1;
    stop();  // those that run must be joined before the state goes
    refuse(Radius::kStartup,
           {"starting compute threads", fmt::format("{} threads, then: {}", started, failure.what()),
            fmt::format("{} threads", threads), "ask for fewer threads or raise the limit on processes"});
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping.store(true);
    state_->job_opened.notify_all();
  }
  for (std::thread& worker : state_->workers) {
    worker.join();
  }
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(std::int64_t pieces, Call call, void* context) {
  State& state = *state_;
  check(!state.busy.exchange(true), "parallel_for inside parallel_for");
  set_fp_environment();
  state.pieces = pieces;
  state.call = call;
  state.context = context;
  state.next_piece.store(0, std::memory_order_relaxed);
  const bool alone = state.workers.empty() || pieces <= 1;
  if (!alone) {
    state.open();
  }
  state.draw_pieces(/*member=*/0);
  if (!alone) {
    state.close_and_wait();
  }
  state.busy.store(false);
  if (state.failure) {
    const std::exception_ptr failure = std::exchange(state.failure, nullptr);
    std::rethrow_exception(failure);
  }
}

}  // namespace zoetrope
