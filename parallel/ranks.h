// The ranks of this replica as one value: layout, place, communicators, host memory. Made once at start.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "monitoring/phase_note.h"
#include "parallel/communicator.h"
#include "parallel/host_memory.h"
#include "parallel/layout.h"

namespace zoetrope {

struct Ranks {
  Layout layout;
  Place place;
  std::unique_ptr<Communicator> world;  // all ranks
  std::unique_ptr<Communicator> stage;  // the ranks of this stage: what a layer needs; rank = member * tp + tp_index
  std::unique_ptr<Communicator> tp;     // the ranks of this member in this stage
  std::unique_ptr<Communicator> ring;   // the ranks of all members of this stage with this tp index; rank = member
  std::unique_ptr<Communicator> pipe;   // the ranks of all stages with this member and tp index; rank = stage
  std::unique_ptr<HostMemory> host;
  std::unique_ptr<HostMemory> stage_host;  // of the ranks of this stage on this host
  std::string host_name;
  PhaseNote* note = nullptr;  // where this rank writes what it is doing, when somebody reads it

  bool leader() const { return place.rank == 0; }
  bool first_stage() const { return place.stage == 0; }
  bool last_stage() const { return place.stage == layout.pp - 1; }
};

// What this rank has sent, by the communicators above.
inline constexpr std::size_t kAxes = 5;
inline constexpr std::array<const char*, kAxes> kAxisNames{"world", "stage", "tp", "ring", "pipe"};
std::array<NamedBook, kAxes> books_of(const Ranks& ranks);

// Fills what follows from `layout` and `world`: place, groups, memory of the host, whose ranks are `host_ranks`.
// Collective over the world.
void divide_world(Ranks& ranks, std::unique_ptr<Communicator> host_ranks);

// One rank, no messages.
Ranks self_ranks();

// N ranks as threads of this process; body runs once per rank, on its own thread. Rethrows the first error after all
// ended; an error in one rank aborts the others. Waiting ranks sleep on a condition variable.
void run_ranks(const Layout& layout, const std::function<void(Ranks&)>& body);

// The MPI job that mpirun, srun or a plain start (one rank) launched. Holds MPI from construction to destruction; sets
// the program's own MCA variables before MPI_Init. Only one per process.
class MpiJob {
 public:
  MpiJob();
  ~MpiJob();
  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;

  int rank() const;
  int size() const;
  int local_rank() const;
  int local_ranks() const;
  // Ranks on this host that share exactly this rank's CPU affinity mask: threads per rank = cores in the mask / this.
  int ranks_sharing_cores() const;

  // Splits the job by `layout`; Error(kStartup) with the arithmetic when layout.ranks() != size().
  Ranks ranks(const Layout& layout);

  // Ends every process of the job at once (after an Error(kCluster) or any failure of one rank), never returns. When
  // another rank of this host is about to report the failure, waits up to 3 s for that rank to end us.
  [[noreturn]] void abort(int exit_code);

  // Prints `message` (monitoring/error.h), once for the whole job, then abort(): of the ranks of a host the first to
  // fail prints, and hosts other than rank 0's hold back for a second, in which rank 0's host would end them.
  [[noreturn]] void fail(std::string_view message, int exit_code);

  // True when this process was started by a launcher with more than one rank, known without initialising MPI.
  static bool launched();
  // The rank of this process as its launcher tells it in the environment, 0 when started alone. Known before MPI
  // starts.
  static int launched_rank();

 private:
  bool finalised();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace zoetrope
