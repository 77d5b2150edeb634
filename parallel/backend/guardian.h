// A small process beside a rank that outlives it. A rank that is killed can say nothing, and neither MPI nor its
// launcher notices one that was stopped (SIGSTOP): the guardian tells both, with the rank, the host, the phase and the
// step, ends a stopped rank so that the launcher ends the others, and takes away what a launcher of Open MPI 4 that was
// killed leaves behind.
#pragma once

#include <chrono>
#include <memory>

#include "monitoring/phase_note.h"

namespace zoetrope {

struct GuardianTimes {
  std::chrono::milliseconds look = std::chrono::milliseconds(500);  // how often it looks at the rank and the launcher
  std::chrono::milliseconds stopped_max = std::chrono::milliseconds(4000);
  std::chrono::milliseconds start_max = std::chrono::minutes(2);  // until started(): a rank of the job does not come

  // These, with the seconds of ZOETROPE_START_SECONDS for start_max. Throws an Error when they are no positive number.
  static GuardianTimes of_environment();
};

class Guardian {
 public:
  // Forks, so it is made before MPI and before any thread; only one per process. From then on SIGTERM, SIGINT and
  // SIGHUP from the launcher or a terminal count as an end that others have explained (one that is ignored stays so),
  // and a broken invariant as one that it has told itself. Where the host gives no more processes the log says so, and
  // nobody guards.
  explicit Guardian(int rank, const GuardianTimes& times = GuardianTimes::of_environment());
  // Excuses, and waits for the guardian, which has nothing left to do.
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  // What this rank is doing; kept up to date by it, read by the guardian. Lives as long as this.
  PhaseNote& note() noexcept;
  // MPI has started.
  void started() noexcept;
  // This process ends of itself, with a message where one is due: the guardian says nothing.
  void excuse() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace zoetrope
