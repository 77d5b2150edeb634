// Ranks as processes under MPI. Only non-blocking point-to-point calls after start-up: MPI_Isend, MPI_Irecv and a
// polled MPI_Testsome, because a blocking call never returns when its peer has died (Open MPI 4 reports no dead peers).
// Groups are tags on one communicator, so splitting needs no MPI call either.
#include "parallel/backend/mpi.h"

#include <fmt/format.h>
#include <mpi.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/log.h"
#include "monitoring/trace.h"
#include "parallel/backend/flight_pool.h"
#include "parallel/backend/group.h"
#include "parallel/backend/guardian.h"
#include "parallel/backend/job_board.h"
#include "parallel/collectives.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

std::size_t message_bytes_max = std::size_t{1} << 30;
std::atomic<bool> job_exists{false};

// Open MPI reads these in MPI_Init. A value that is there already is the user's (mpirun --mca and --tune set them too).
//   yield: two ranks on one core otherwise spin against each other, 1000 times slower (7 ms for 8 bytes);
//   ob1: chosen explicitly, the packaged configuration switches others off in ways that depend on the host;
//   single copy none, eager limit 32 KiB: measured fastest between processes of one host for 4 KiB ... 1 MiB.
constexpr std::array<std::array<const char*, 2>, 4> kSettings{{{"OMPI_MCA_mpi_yield_when_idle", "1"},
                                                               {"OMPI_MCA_pml", "ob1"},
                                                               {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
                                                               {"OMPI_MCA_btl_vader_eager_limit", "32768"}}};

void checked(int code, std::string_view call) {
  if (code == MPI_SUCCESS) {
    return;
  }
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  refuse(Radius::kCluster, {std::string(call), quoted(text.data(), 200), "success",
                            "see the launcher's messages, then start the job again"});
}

// More between two looks at an exchange, of a rank that waits and of one that computes, is taken for a suspension.
constexpr std::chrono::seconds kPauseMax{2}, kComputingMax{60};
constexpr std::chrono::milliseconds kReportTime{1100};  // in which the rank that stopped the job says why

// How a rank waits. It first polls (a poll yields the core), as long as the bytes under way could need at 4 GB/s, anew
// after each message that completes. Then it sleeps between polls: briefly while large messages may be moving (a poll
// moves about 100 KB), in growing steps up to 1 ms while it waits for small ones, as an idle follower does.
class Patience {
 public:
  void progressed(std::size_t bytes_pending) {
    since_ = Clock::now();
    bytes_ = bytes_pending;
  }

  void pause() const {
    const auto waited = std::chrono::duration_cast<microseconds>(Clock::now() - since_);
    if (waited < kSpin + microseconds(bytes_ / 4000)) {
      return;  // the poll itself yielded the core (mpi_yield_when_idle)
    }
    if (bytes_ > kSmallBytes) {
      std::this_thread::sleep_for(kNap);
    } else {
      std::this_thread::sleep_for(std::clamp<microseconds>(waited / 32, kNap, kSleepMax));
    }
  }

 private:
  static constexpr microseconds kSpin{200};
  static constexpr microseconds kNap{20};
  static constexpr microseconds kSleepMax{1000};
  static constexpr std::size_t kSmallBytes = 64 * 1024;
  Clock::time_point since_ = Clock::now();
  std::size_t bytes_ = 0;
};

// What one process's communicators share.
struct MpiEndpoint {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  int next_number = 1;
  std::chrono::milliseconds deadline = std::chrono::seconds(120);
  std::thread::id thread = std::this_thread::get_id();  // the one that may call MPI (MPI_THREAD_FUNNELED)
  std::vector<std::byte> own_memory;                    // of the board until the host's memory is there
  std::unique_ptr<HostMemory> board_memory;
  std::unique_ptr<JobBoard> board;
};

class MpiCommunicator;

// One exchange of a communicator under way.
class MpiFlight : public Flight {
 public:
  explicit MpiFlight(MpiCommunicator& comm) : comm_(comm) {}
  bool test() override;
  void wait() override;
  void withdraw() noexcept override;
  void end() noexcept override;
  Traffic sent() const override { return sent_; }

 private:
  friend class MpiCommunicator;
  struct Message {
    int member = 0;  // rank of the job
    bool receive = false;
    std::size_t bytes = 0;
  };

  void start(std::span<const SendPart> sends, std::span<const ReceivePart> receives);
  void start_one(const Message& part, std::byte* data);
  bool moved();
  void completed(int count, int error);
  void check_in_time(Clock::duration gap_max);
  void failed(const std::exception& error) noexcept;
  std::vector<int> missing() const;

  MpiCommunicator& comm_;
  std::string_view what_;
  Traffic sent_;
  Clock::time_point begun_, polled_;  // begun_: later by the time in which the job was suspended
  std::vector<MPI_Request> requests_;
  std::vector<Message> messages_;  // one per request
  std::vector<int> done_;
  std::vector<MPI_Status> statuses_;
  std::size_t bytes_pending_ = 0;
  std::size_t pending_ = 0;  // requests
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiEndpoint> endpoint, Group group)
      : endpoint_(std::move(endpoint)), group_(std::move(group)) {}

  int rank() const override { return group_.rank; }
  int size() const override { return group_.size(); }

  std::unique_ptr<Communicator> split(int color, int key) override {
    return std::make_unique<MpiCommunicator>(endpoint_, split_group(*this, group_, color, key, endpoint_->next_number));
  }

  // Seen by the ranks of this host within a poll; those of other hosts end when this one's program calls
  // MpiJob::abort().
  void abort(std::string_view why) noexcept override { endpoint_->board->stop(endpoint_->rank, why); }

  void set_deadline(std::chrono::milliseconds deadline) override { endpoint_->deadline = deadline; }

 private:
  friend class MpiFlight;

  Flight& start(std::span<const SendPart> sends, std::span<const ReceivePart> receives, std::string_view what) override;
  int member(int peer) const {
    check(peer >= 0 && peer < size(), "a peer lies in the communicator");
    return group_.members[static_cast<std::size_t>(peer)];
  }

  std::shared_ptr<MpiEndpoint> endpoint_;
  Group group_;
  FlightPool<MpiFlight> flights_;
};

Flight& MpiCommunicator::start(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                               std::string_view what) {
  check(std::this_thread::get_id() == endpoint_->thread, "one thread of a rank calls MPI");
  endpoint_->board->throw_if_stopped();
  copy_own_parts(rank(), sends, receives, what);
  MpiFlight& flight = flights_.begin(*this);
  flight.what_ = what;
  flight.begun_ = flight.polled_ = Clock::now();
  try {
    flight.start(sends, receives);
  } catch (const std::exception& error) {
    flight.failed(error);
    flight.withdraw();
    flight.end();
    throw;
  }
  return flight;
}

void MpiFlight::start_one(const Message& part, std::byte* data) {
  const MpiEndpoint& endpoint = *comm_.endpoint_;
  for (std::size_t at = 0; at < part.bytes;) {
    const std::size_t bytes = std::min(part.bytes - at, message_bytes_max);
    MPI_Request request = MPI_REQUEST_NULL;
    if (part.receive) {
      checked(MPI_Irecv(data + at, static_cast<int>(bytes), MPI_BYTE, part.member, comm_.group_.number, endpoint.comm,
                        &request),
              "MPI_Irecv");
    } else {
      checked(MPI_Isend(data + at, static_cast<int>(bytes), MPI_BYTE, part.member, comm_.group_.number, endpoint.comm,
                        &request),
              "MPI_Isend");
      sent_.messages += 1;
      sent_.bytes += bytes;
    }
    requests_.push_back(request);
    messages_.push_back({part.member, part.receive, bytes});
    bytes_pending_ += bytes;
    at += bytes;
  }
}

// Receives first: a message that finds its place is copied once less.
void MpiFlight::start(std::span<const SendPart> sends, std::span<const ReceivePart> receives) {
  requests_.clear();
  messages_.clear();
  sent_ = {};
  bytes_pending_ = 0;
  for (const ReceivePart& part : receives) {
    if (part.peer != comm_.rank()) {
      start_one({comm_.member(part.peer), true, part.bytes.size()}, part.bytes.data());
    }
  }
  for (const SendPart& part : sends) {
    if (part.peer != comm_.rank()) {
      // MPI reads through a pointer to mutable bytes in its old bindings only.
      start_one({comm_.member(part.peer), false, part.bytes.size()}, const_cast<std::byte*>(part.bytes.data()));
    }
  }
  pending_ = requests_.size();
  done_.resize(requests_.size());
  statuses_.resize(requests_.size());
}

std::vector<int> MpiFlight::missing() const {
  std::vector<int> ranks;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL) {
      ranks.push_back(messages_[i].member);
    }
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

// Books `count` messages of done_; `error` is what MPI_Testsome said.
void MpiFlight::completed(int count, int error) {
  const int own = comm_.endpoint_->rank;
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const Message& message = messages_[static_cast<std::size_t>(done_[at])];
    bytes_pending_ -= message.bytes;
    --pending_;
    if (error == MPI_ERR_IN_STATUS && statuses_[at].MPI_ERROR != MPI_SUCCESS) {
      checked(statuses_[at].MPI_ERROR,
              fmt::format("'{}' {} rank {} at rank {}", what_, message.receive ? "from" : "to", message.member, own));
    }
    int received = 0;
    if (message.receive && (MPI_Get_count(&statuses_[at], MPI_BYTE, &received) != MPI_SUCCESS ||
                            static_cast<std::size_t>(received) != message.bytes)) {
      refuse_length(what_, message.member, own, static_cast<std::size_t>(received), message.bytes);
    }
  }
  if (error != MPI_ERR_IN_STATUS) {
    checked(error, "MPI_Testsome");
  }
}

// One poll, which moves messages of all exchanges: true when some of this one were done by it.
bool MpiFlight::moved() {
  int count = 0;
  const int error =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, done_.data(), statuses_.data());
  if (count == MPI_UNDEFINED) {  // nothing is left
    pending_ = 0;
    return true;
  }
  if (count > 0 || error != MPI_SUCCESS) {
    completed(count, error);
    return true;
  }
  return false;
}

// A time of more than `gap_max` without a look is one in which this process did not run: the job was suspended, its
// peers too, and what is missing could not come.
void MpiFlight::check_in_time(Clock::duration gap_max) {
  MpiEndpoint& endpoint = *comm_.endpoint_;
  endpoint.board->throw_if_stopped();
  const auto now = Clock::now();
  if (const auto gap = now - std::exchange(polled_, now); gap > gap_max) {
    begun_ += gap;
  }
  if (now >= begun_ + endpoint.deadline) {
    const auto ranks = missing();
    endpoint.board->set_waits_for(endpoint.rank, ranks.front());
    give_up(*endpoint.board, endpoint.rank, what_, endpoint.deadline, ranks);
  }
}

void MpiFlight::failed(const std::exception& error) noexcept { comm_.abort(error.what()); }

bool MpiFlight::test() {
  check(std::this_thread::get_id() == comm_.endpoint_->thread, "one thread of a rank calls MPI");
  try {
    while (pending_ > 0 && moved()) {
    }
    if (pending_ > 0) {
      check_in_time(kComputingMax);
    }
    return pending_ == 0;
  } catch (const std::exception& error) {
    failed(error);
    throw;
  }
}

void MpiFlight::wait() {
  check(std::this_thread::get_id() == comm_.endpoint_->thread, "one thread of a rank calls MPI");
  const MpiEndpoint& endpoint = *comm_.endpoint_;
  begun_ = polled_ = Clock::now();
  Patience patience;
  patience.progressed(bytes_pending_);
  bool waits = false;  // as the board says
  try {
    while (pending_ > 0) {
      if (moved()) {
        patience.progressed(bytes_pending_);
        continue;
      }
      check_in_time(kPauseMax);
      if (!waits) {
        endpoint.board->set_waits_for(endpoint.rank, missing().front());
        waits = true;
      }
      patience.pause();
    }
  } catch (const std::exception& error) {
    failed(error);
    throw;
  }
  if (waits) {
    endpoint.board->set_waits_for(endpoint.rank, -1);
  }
}

// The memory of the parts is about to go, so nothing may be received into it any more. Sends are left alone; no MPI
// call but the abort follows.
void MpiFlight::withdraw() noexcept {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL && messages_[i].receive) {
      MPI_Cancel(&requests_[i]);
      MPI_Request_free(&requests_[i]);
    }
  }
  requests_.clear();
}

void MpiFlight::end() noexcept { comm_.flights_.end(this); }

// The environment variable's whole number, 0 when it is absent or something else.
int number_in(const char* variable) {
  const char* const text = std::getenv(variable);
  int value = 0;
  if (text == nullptr || std::from_chars(text, text + std::strlen(text), value).ec != std::errc()) {
    return 0;
  }
  return value;
}

// Waits to be ended by the launcher, because another rank is about to abort the job.
void await_the_end(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

}  // namespace

void set_mpi_message_bytes_max(std::size_t bytes) {
  check(bytes > 0 && bytes <= (std::size_t{1} << 30), "messages have 1 byte to 1 GiB");
  message_bytes_max = bytes;
}

struct MpiJob::State {
  std::unique_ptr<Guardian> guardian;  // of a rank that a launcher started
  std::shared_ptr<MpiEndpoint> endpoint = std::make_shared<MpiEndpoint>();
  std::unique_ptr<Communicator> world;
  Group host;  // the ranks of this host
  int ranks_sharing_cores = 1;
  bool reports = false;  // this rank prints the job's failure

  std::unique_ptr<Communicator> host_communicator() { return world->split(host.members.front(), endpoint->rank); }
};

namespace {

// Which ranks share this host: the one question that only MPI can answer.
Group host_group(MPI_Comm comm, int rank) {
  MPI_Comm host = MPI_COMM_NULL;
  checked(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  MPI_Group of_host = MPI_GROUP_NULL;
  MPI_Group of_job = MPI_GROUP_NULL;
  int size = 0;
  checked(MPI_Comm_group(host, &of_host), "MPI_Comm_group");
  checked(MPI_Comm_group(comm, &of_job), "MPI_Comm_group");
  checked(MPI_Group_size(of_host, &size), "MPI_Group_size");
  std::vector<int> local(static_cast<std::size_t>(size));
  for (int i = 0; i < size; ++i) {
    local[static_cast<std::size_t>(i)] = i;
  }
  Group group;
  group.members = local;
  checked(MPI_Group_translate_ranks(of_host, size, local.data(), of_job, group.members.data()),
          "MPI_Group_translate_ranks");
  group.rank = static_cast<int>(std::find(group.members.begin(), group.members.end(), rank) - group.members.begin());
  MPI_Group_free(&of_host);
  MPI_Group_free(&of_job);
  MPI_Comm_free(&host);
  return group;
}

int ranks_with_equal_affinity(Communicator& host) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof(mask), &mask) != 0) {
    return host.size();  // more than 1024 CPUs: as if all ranks shared them
  }
  const auto masks = all_gather(host, std::as_bytes(std::span(&mask, 1)), "affinity masks");
  return static_cast<int>(std::count_if(masks.begin(), masks.end(), [&mask](const std::vector<std::byte>& other) {
    return other.size() == sizeof(mask) && std::memcmp(other.data(), &mask, sizeof(mask)) == 0;
  }));
}

void initialise_mpi() {
  for (const auto& [name, value] : kSettings) {
    ::setenv(name, value, /*overwrite=*/0);
  }
  int already = 0;
  MPI_Initialized(&already);
  check(already == 0, "MPI is started here alone");
  int provided = MPI_THREAD_SINGLE;
  checked(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED) {
    refuse(Radius::kStartup, {"MPI's thread level", fmt::format("{}", provided), "MPI_THREAD_FUNNELED",
                              "use an MPI library built with threads"});
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

}  // namespace

MpiJob::MpiJob() : state_(std::make_unique<State>()) {
  check(!job_exists.exchange(true), "a process has one MPI job");
  if (launched()) {
    state_->guardian = std::make_unique<Guardian>(launched_rank());  // forks: before MPI
    // The socket to a rank that has died must not kill this one too: Open MPI sees the error and ends the rank.
    ::signal(SIGPIPE, SIG_IGN);
  }
  initialise_mpi();
  ::prctl(PR_SET_TIMERSLACK, 1000UL);  // ns; the default of 50 us would make short naps long
  MpiEndpoint& endpoint = *state_->endpoint;
  checked(MPI_Comm_dup(MPI_COMM_WORLD, &endpoint.comm), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(endpoint.comm, MPI_ERRORS_RETURN);
  checked(MPI_Comm_rank(endpoint.comm, &endpoint.rank), "MPI_Comm_rank");
  checked(MPI_Comm_size(endpoint.comm, &endpoint.size), "MPI_Comm_size");
  state_->host = host_group(endpoint.comm, endpoint.rank);
  // The board is private until the ranks of the host have memory together, which they get by talking.
  endpoint.own_memory.resize(JobBoard::bytes(endpoint.size));
  endpoint.board = std::make_unique<JobBoard>(endpoint.own_memory, endpoint.size);
  state_->world = std::make_unique<MpiCommunicator>(state_->endpoint, whole_group(endpoint.rank, endpoint.size));
  endpoint.board_memory = memory_of_host(state_->host_communicator());
  const auto shared = endpoint.board_memory->allocate(JobBoard::bytes(endpoint.size));
  endpoint.board = std::make_unique<JobBoard>(shared, endpoint.size);
  const auto host = state_->host_communicator();
  state_->ranks_sharing_cores = ranks_with_equal_affinity(*host);
  if (state_->guardian) {
    state_->guardian->started();
    state_->guardian->note().enter(static_cast<std::int32_t>(TracePhase::kRun), -1);
  }
}

// A job that was stopped is not finalised: the rank that failed aborts it.
MpiJob::~MpiJob() {
  const bool reported_elsewhere = !finalised() && state_->endpoint->board->stopped() && !state_->reports;
  if (reported_elsewhere) {
    await_the_end(std::chrono::seconds(3));
  }
  // Communicators that outlive the job find a board that says so. The host's memory goes: its communicator holds the
  // endpoint.
  MpiEndpoint& endpoint = *state_->endpoint;
  std::fill(endpoint.own_memory.begin(), endpoint.own_memory.end(), std::byte{0});
  endpoint.board = std::make_unique<JobBoard>(endpoint.own_memory, endpoint.size);
  endpoint.board->stop(endpoint.rank, "the job has ended");
  endpoint.board_memory.reset();
}

// MPI_Finalize waits for every rank without a deadline, so it is only called after a barrier that has one. False when
// the job was stopped, or is given up here.
bool MpiJob::finalised() {
  if (std::uncaught_exceptions() == 0 && !state_->endpoint->board->stopped()) {
    try {
      barrier(*state_->world, "end of the job");
      state_->world.reset();
      MPI_Comm_free(&state_->endpoint->comm);
      MPI_Finalize();
      job_exists = false;
      return true;
    } catch (const std::exception& error) {
      log::info("end_without_all_ranks", {{"cause", error.what()}});
    }
  }
  return false;
}

int MpiJob::rank() const { return state_->endpoint->rank; }
int MpiJob::size() const { return state_->endpoint->size; }
int MpiJob::local_rank() const { return state_->host.rank; }
int MpiJob::local_ranks() const { return state_->host.size(); }
int MpiJob::ranks_sharing_cores() const { return state_->ranks_sharing_cores; }

Ranks MpiJob::ranks(const Layout& layout) {
  const std::int64_t wanted = std::int64_t{layout.pp} * layout.ring * layout.tp;
  if (layout.pp < 1 || layout.ring < 1 || layout.tp < 1 || wanted != size()) {
    refuse(Radius::kStartup, {"layout " + described(layout),
                              fmt::format("{} x {} x {} = {} ranks", layout.pp, layout.ring, layout.tp, wanted),
                              fmt::format("{}, the ranks of this job", size()),
                              "start as many ranks as the layout has (mpirun -n), or change --pp, --ring or --tp"});
  }
  Ranks ranks;
  ranks.layout = layout;
  ranks.world = state_->world->split(0, rank());
  ranks.note = state_->guardian ? &state_->guardian->note() : nullptr;
  divide_world(ranks, state_->host_communicator());
  return ranks;
}

void MpiJob::abort(int exit_code) {
  const int code = exit_code == 0 ? 1 : exit_code;  // the launcher ends the job for a failure only
  MpiEndpoint& endpoint = *state_->endpoint;
  endpoint.board->stop(endpoint.rank, "it ended with an error");
  if (state_->guardian) {
    state_->guardian->excuse();
  }
  if (endpoint.board->report_claimed() && !state_->reports) {
    await_the_end(std::chrono::seconds(3));
  }
  std::fflush(nullptr);
  if (std::this_thread::get_id() == endpoint.thread) {
    ::signal(SIGALRM, SIG_DFL);  // should MPI_Abort itself hang, the process ends all the same and the launcher sees it
    ::alarm(3);
    MPI_Abort(MPI_COMM_WORLD, code);
  }
  std::_Exit(code);
}

void MpiJob::fail(std::string_view message, int exit_code) {
  MpiEndpoint& endpoint = *state_->endpoint;
  endpoint.board->stop(endpoint.rank, message);
  // Another rank of this host stopped the job and knows why: what this one saw of it is less.
  const auto until = std::chrono::steady_clock::now() + kReportTime;
  while (endpoint.board->stopped_by() != endpoint.rank && !endpoint.board->report_claimed() &&
         std::chrono::steady_clock::now() < until) {
    await_the_end(std::chrono::milliseconds(10));
  }
  if (endpoint.board->claim_report()) {
    state_->reports = true;
    if (endpoint.rank != 0 && state_->host.members.front() != 0) {
      await_the_end(std::chrono::seconds(1));
    }
    print_failure(message);
  }
  abort(exit_code);
}

// Variables of mpirun, of PMI launchers, and of srun --mpi=pmix; Slurm's number of tasks alone is not enough, because a
// plain start in a batch script has it too.
bool MpiJob::launched() {
  return number_in("OMPI_COMM_WORLD_SIZE") > 1 || number_in("PMI_SIZE") > 1 ||
         (std::getenv("PMIX_RANK") != nullptr && number_in("SLURM_NTASKS") > 1);
}

int MpiJob::launched_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') {
      return number_in(name);
    }
  }
  return 0;
}

}  // namespace zoetrope
