#include "runtime/engine/decode_ahead.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/media/patches.h"

namespace zoetrope {
namespace {

using Clock = std::chrono::steady_clock;

// Arithmetic goes first: decoding takes the cores that it leaves, and its full share once hurry() says so. A thread may
// make itself nicer but not take that back, so a decoder is driven by one of two threads.
constexpr int kNice = 10;
// What a decoder holds, in frames of its film: references, pictures waiting for their turn, the one being converted.
constexpr std::int64_t kDecoderFrames = 24;
// Units that one decoder takes in a row even where another could go on: passing over packets is not free.
constexpr std::size_t kRunUnitsMin = 4;
constexpr std::int64_t kDecodersBytesMax = std::int64_t{128} << 20;

double seconds_since(Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); }

double thread_cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Decoders that may have this medium open at once.
int decoders_for(const Medium& medium) {
  const std::int64_t frame = std::int64_t{medium.report.source_height} * medium.report.source_width * 3 / 2;
  return static_cast<int>(
      std::clamp<std::int64_t>(kDecodersBytesMax / std::max<std::int64_t>(frame * kDecoderFrames, 1), 1, 64));
}

}  // namespace

struct DecodeAhead::State {
  struct Unit {
    RequestId id{};
    Media media;
    std::int32_t unit = 0, medium = 0, pair = 0;
    std::stop_token stop;
    bool decoded = false, dropped = false;
    std::vector<std::uint8_t> patches;
    std::exception_ptr failure;

    const Medium& shown() const { return (*media)[static_cast<std::size_t>(medium)]; }
    std::size_t bytes() const {
      const Grid& grid = shown().grid;
      return static_cast<std::size_t>(grid.h) * static_cast<std::size_t>(grid.w) * kPatchColumns;
    }
  };
  // Units that one decoder takes one after another: the next one needs pictures that the one before needed as well.
  struct Run {
    std::deque<std::shared_ptr<Unit>> units;
    int decoder = -1;  // the one that stands there; -1: any
  };
  // The unit of a request that was announced last and its run, in case the next one goes on from there.
  struct Announced {
    std::int32_t medium = -1, pair = -1;
    std::size_t run_units = 0;  // that the run ever got
    std::shared_ptr<Run> run;
    std::exception_ptr failure;  // of the first unit that could not be decoded
    std::stop_source stop;
  };

  std::mutex mutex;  // guards all that follows
  std::condition_variable_any work, ready;
  struct Decoder {
    UnitReader reader;
    bool busy = false;  // one of its two threads reads
  };
  std::vector<Decoder> decoders;
  bool hurried = false;                       // the threads that are not nice work
  std::deque<std::shared_ptr<Run>> runs;      // with units that nobody has begun
  std::deque<std::shared_ptr<Unit>> waiting;  // announced and not taken
  std::map<RequestId, Announced> requests;
  Times times;
  int active = 0;
  Clock::time_point active_since{};
  std::int64_t held_bytes = 0, held_bytes_max = 0;  // of decoded patches that wait
  std::int64_t decoding_bytes = 0;                  // of those that are written just now
  // Of all units that wait, and the most there were since none did.
  std::int64_t waiting_bytes = 0, waiting_bytes_max = 0;
  // Memory that was given back for units to come: never more than that together with what is used.
  std::deque<std::vector<std::uint8_t>> spare;
  std::int64_t spare_bytes = 0, reused_units = 0;

  std::vector<std::jthread> threads;

  // The first run that decoder `index` may go on with.
  std::shared_ptr<Run> next_for(int index) {
    for (auto at = runs.begin(); at != runs.end();) {
      Run& run = **at;
      if (run.units.empty()) {
        at = runs.erase(at);
      } else if (run.decoder == index || (run.decoder < 0 && index < decoders_for(run.units.front()->shown()))) {
        run.decoder = index;
        return *at;
      } else {
        ++at;
      }
    }
    return nullptr;
  }

  void work_on(std::stop_token stop, int index, bool nice) {
    if (nice) {
      ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
    }
    std::unique_lock lock(mutex);
    Decoder& decoder = decoders[static_cast<std::size_t>(index)];
    for (;;) {
      std::shared_ptr<Run> run;
      work.wait(lock, stop, [&] { return hurried != nice && !decoder.busy && (run = next_for(index)) != nullptr; });
      if (stop.stop_requested()) {
        return;
      }
      decoder.busy = true;
      const std::shared_ptr<Unit> unit = run->units.front();
      run->units.pop_front();
      const Announced& request = requests.at(unit->id);  // drop() takes a request's units out of its runs
      if (request.failure) {
        unit->failure = request.failure;
      } else {
        decode(*unit, decoder.reader, lock);
      }
      decoder.busy = false;
      if (hurried == nice) {
        work.notify_all();  // the decoder's other thread goes on
      }
      unit->decoded = true;
      ready.notify_all();
    }
  }

  // One of this size, or nothing yet.
  std::vector<std::uint8_t> taken_from_spare(std::int64_t size) {
    std::vector<std::uint8_t> patches;
    const auto at = std::ranges::find(spare, size, [](const auto& one) { return std::ssize(one); });
    if (at != spare.end()) {
      patches = std::move(*at);
      spare.erase(at);
      spare_bytes -= size;
      ++reused_units;
    }
    return patches;
  }

  // `bytes` of units no longer wait.
  void no_longer_wait(std::int64_t bytes) {
    waiting_bytes -= bytes;
    if (waiting.empty()) {
      waiting_bytes_max = 0;
    }
    free_spare(0);
  }

  // What is too much beside `more`, the oldest first: it may be of a film that is over.
  void free_spare(std::int64_t more) {
    while (spare_bytes > 0 && held_bytes + decoding_bytes + spare_bytes + more > waiting_bytes_max) {
      spare_bytes -= std::ssize(spare.front());
      spare.pop_front();
    }
  }

  void decode(Unit& unit, UnitReader& reader, std::unique_lock<std::mutex>& lock) {
    if (active++ == 0) {
      active_since = Clock::now();
    }
    const auto bytes = static_cast<std::int64_t>(unit.bytes());
    std::vector<std::uint8_t> patches = taken_from_spare(bytes);
    free_spare(bytes);
    decoding_bytes += bytes;
    lock.unlock();
    const double cpu = thread_cpu_seconds();
    std::exception_ptr failure;
    try {
      patches.resize(unit.bytes());
      reader.read(unit.shown(), unit.pair, patches, unit.stop);
    } catch (...) {
      failure = std::current_exception();
    }
    const double used = thread_cpu_seconds() - cpu;
    lock.lock();
    decoding_bytes -= bytes;
    times.cpu_seconds += used;
    if (--active == 0) {
      times.busy_seconds += seconds_since(active_since);
    }
    if (unit.dropped) {
      return;
    }
    if (failure) {
      requests.at(unit.id).failure = failure;
      unit.failure = failure;
    } else {
      unit.patches = std::move(patches);
      held_bytes += static_cast<std::int64_t>(unit.patches.size());
      held_bytes_max = std::max(held_bytes_max, held_bytes);
    }
  }
};

DecodeAhead::DecodeAhead(int decoders) : state_(std::make_unique<State>()) {
  check(decoders >= 1, "decoding ahead needs a decoder");
  state_->decoders = std::vector<State::Decoder>(static_cast<std::size_t>(decoders));
  try {
    for (int thread = 0; thread < 2 * decoders; ++thread) {
      state_->threads.emplace_back([state = state_.get(), thread](std::stop_token stop) {
        state->work_on(std::move(stop), thread / 2, thread % 2 == 0);
      });
    }
  } catch (const std::system_error& failure) {
    const std::size_t started = state_->threads.size();
    state_->threads.clear();  // stops and joins
    refuse(Radius::kStartup,
           {"starting threads that decode", fmt::format("{} threads, then: {}", started, failure.what()),
            fmt::format("two for each of {} decoders", decoders),
            "ask for fewer --threads or raise the limit on processes"});
  }
}

DecodeAhead::~DecodeAhead() {
  {
    const std::lock_guard lock(state_->mutex);
    for (auto& [id, request] : state_->requests) {
      request.stop.request_stop();
    }
  }
  for (std::jthread& thread : state_->threads) {
    thread.request_stop();
  }
  state_->threads.clear();  // joins
}

void DecodeAhead::add(RequestId id, const Media& media, std::int32_t unit, const VisualUnit& visual) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  State::Announced& request = s.requests[id];
  auto entry = std::make_shared<State::Unit>();
  entry->id = id;
  entry->media = media;
  entry->unit = unit;
  entry->medium = visual.medium;
  entry->pair = visual.pair;
  entry->stop = request.stop.get_token();
  const bool follows = request.run != nullptr && request.medium == visual.medium && request.pair + 1 == visual.pair;
  if (!follows || (visual.clean != 0 && request.run_units >= kRunUnitsMin)) {
    request.run = std::make_shared<State::Run>();
    request.run_units = 0;
  }
  if (request.run->units.empty()) {
    s.runs.push_back(request.run);
  }
  s.waiting_bytes += static_cast<std::int64_t>(entry->bytes());
  s.waiting_bytes_max = std::max(s.waiting_bytes_max, s.waiting_bytes);
  request.run->units.push_back(entry);
  ++request.run_units;
  request.medium = visual.medium;
  request.pair = visual.pair;
  s.waiting.push_back(std::move(entry));
  s.work.notify_all();
}

std::vector<std::uint8_t> DecodeAhead::take(RequestId id, std::int32_t unit) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  const auto at = std::ranges::find_if(s.waiting, [&](const auto& u) { return u->id == id && u->unit == unit; });
  check(at != s.waiting.end(), "a unit is taken that was not announced, or was taken");
  const std::shared_ptr<State::Unit> entry = *at;
  if (!entry->decoded) {
    const auto from = Clock::now();
    s.ready.wait(lock, [&] { return entry->decoded; });
    s.times.waited_seconds += seconds_since(from);
  }
  std::erase(s.waiting, entry);
  s.held_bytes -= std::ssize(entry->patches);
  s.no_longer_wait(static_cast<std::int64_t>(entry->bytes()));
  if (entry->failure) {
    std::rethrow_exception(entry->failure);
  }
  return std::move(entry->patches);
}

void DecodeAhead::give_back(std::vector<std::uint8_t> patches) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const std::int64_t bytes = std::ssize(patches);
  if (s.held_bytes + s.decoding_bytes + s.spare_bytes + bytes <= s.waiting_bytes_max) {
    s.spare.push_back(std::move(patches));
    s.spare_bytes += bytes;
  }
}

void DecodeAhead::drop(RequestId id) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto at = s.requests.find(id);
  if (at == s.requests.end()) {
    return;  // nothing of it was ever this rank's
  }
  at->second.stop.request_stop();
  s.requests.erase(at);
  for (const auto& run : s.runs) {
    std::erase_if(run->units, [&](const auto& u) { return u->id == id; });
  }
  std::int64_t dropped = 0;
  std::erase_if(s.waiting, [&](const auto& u) {
    if (u->id != id) {
      return false;
    }
    u->dropped = true;
    s.held_bytes -= static_cast<std::int64_t>(u->patches.size());
    dropped += static_cast<std::int64_t>(u->bytes());
    return true;
  });
  s.waiting_bytes_max = s.waiting_bytes - dropped;  // a film is over: others begin anew
  s.no_longer_wait(dropped);
}

void DecodeAhead::hurry(bool now) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (std::exchange(s.hurried, now) != now) {
    s.work.notify_all();
  }
}

std::vector<DecodeAhead::UnitName> DecodeAhead::decoded() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<UnitName> units;
  for (const auto& unit : state_->waiting) {
    if (unit->decoded) {
      units.push_back({unit->id, unit->unit});
    }
  }
  return units;
}

std::vector<PendingFrames> DecodeAhead::pending() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<PendingFrames> pending;
  for (const auto& unit : state_->waiting) {
    if (!unit->decoded && std::ranges::none_of(pending, [&](const PendingFrames& p) { return p.id == unit->id; })) {
      pending.push_back({unit->id, unit->unit});
    }
  }
  return pending;
}

void DecodeAhead::wait_for_more(std::size_t before, std::chrono::steady_clock::time_point deadline) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  const auto from = Clock::now();
  s.ready.wait_until(lock, deadline, [&] {
    return before !=
           static_cast<std::size_t>(std::ranges::count_if(s.waiting, [](const auto& u) { return u->decoded; }));
  });
  s.times.waited_seconds += seconds_since(from);
}

DecodeAhead::Times DecodeAhead::take_times() {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (s.active > 0) {
    s.times.busy_seconds += seconds_since(std::exchange(s.active_since, Clock::now()));
  }
  return std::exchange(s.times, {});
}

std::int64_t DecodeAhead::held_bytes_max() const {
  const std::lock_guard lock(state_->mutex);
  return state_->held_bytes_max;
}

std::int64_t DecodeAhead::reused_units() const {
  const std::lock_guard lock(state_->mutex);
  return state_->reused_units;
}

std::int64_t DecodeAhead::spare_bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->spare_bytes;
}

}  // namespace zoetrope
