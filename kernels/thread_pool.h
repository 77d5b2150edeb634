// A team of threads that draws numbered pieces of work from one counter. The calling thread is a member of the team.
// Every member sets its floating-point environment (below). Waiting members spin a bounded time, then sleep.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace zoetrope {

class ThreadPool {
 public:
  // threads >= 1, the caller included: a pool of 1 starts no thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(piece, member) for every piece in [0, pieces), each once, in any order, member in [0, threads()).
  // Returns when all are done. Only one parallel_for runs at a time; called by the owning thread only; not nested.
  // An exception thrown by body is rethrown here, once, after all members have stopped.
  template <typename Body>
  void parallel_for(std::int64_t pieces, Body&& body) {
    using Stored = std::remove_reference_t<Body>;
    run(pieces, [](void* context, std::int64_t piece, int member) { (*static_cast<Stored*>(context))(piece, member); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, std::int64_t piece, int member);
  void run(std::int64_t pieces, Call call, void* context);
  void stop();

  struct State;
  std::unique_ptr<State> state_;
};

// The floating-point environment of one-answer rule 0 for the calling thread: denormals are zero, flush to zero,
// round to nearest even. Every thread that computes calls it first.
void set_fp_environment();
bool fp_environment_is_set();

// The environment of rule 0 while it lives, then the one before: for a thread that also does other things, or starts
// threads that do (they inherit it: a denormal number in a request's JSON would read as 0).
class FpEnvironment {
 public:
  FpEnvironment();
  ~FpEnvironment();
  FpEnvironment(const FpEnvironment&) = delete;
  FpEnvironment& operator=(const FpEnvironment&) = delete;

 private:
  unsigned before_;
};

}  // namespace zoetrope
