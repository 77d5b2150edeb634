// The suites of the threads backend over real processes, and what only MPI has: bytes counted by PMPI (the profiling
// interface: a program's MPI_Isend stands before the library's, which is PMPI_Isend), settings, memory between
// processes. mpirun starts it with any number of ranks; rank 0 prints, the others only what fails.
#include "parallel/backend/mpi.h"

#include <gtest/gtest.h>
#include <mpi.h>
#include <sched.h>
#include <sys/resource.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "parallel/control_channel.h"
#include "parallel/ranks.h"
#include "tests/mpi_tests.h"
#include "tests/parallel/collectives_suite.h"
#include "tests/parallel/expert_exchange_suite.h"
#include "tests/parallel/hand_over_suite.h"
#include "tests/parallel/host_memory_suite.h"
#include "tests/parallel/ring_attention_suite.h"

namespace {

// Per rank of the job: bytes handed to MPI_Isend. The communicators of the house all lie on one MPI communicator, so a
// destination is a rank of the job.
std::vector<std::uint64_t> sent_to;
std::uint64_t blocking_calls = 0;

}  // namespace

extern "C" int MPI_Isend(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                         MPI_Request* request) {
  int bytes = 0;
  PMPI_Type_size(type, &bytes);
  sent_to[static_cast<std::size_t>(to)] += static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(bytes);
  return PMPI_Isend(data, count, type, to, tag, comm, request);
}

// Calls that wait inside MPI: none may happen between start and end.
extern "C" int MPI_Wait(MPI_Request* request, MPI_Status* status) {
  ++blocking_calls;
  return PMPI_Wait(request, status);
}
extern "C" int MPI_Waitall(int count, MPI_Request* requests, MPI_Status* statuses) {
  ++blocking_calls;
  return PMPI_Waitall(count, requests, statuses);
}
extern "C" int MPI_Send(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm) {
  ++blocking_calls;
  return PMPI_Send(data, count, type, to, tag, comm);
}
extern "C" int MPI_Recv(void* data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
                        MPI_Status* status) {
  ++blocking_calls;
  return PMPI_Recv(data, count, type, from, tag, comm, status);
}
extern "C" int MPI_Barrier(MPI_Comm comm) {
  ++blocking_calls;
  return PMPI_Barrier(comm);
}
extern "C" int MPI_Allreduce(const void* in, void* out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
  ++blocking_calls;
  return PMPI_Allreduce(in, out, count, type, op, comm);
}
extern "C" int MPI_Alltoallv(const void* out, const int out_counts[], const int out_first[], MPI_Datatype out_type,
                             void* in, const int in_counts[], const int in_first[], MPI_Datatype in_type,
                             MPI_Comm comm) {
  ++blocking_calls;
  return PMPI_Alltoallv(out, out_counts, out_first, out_type, in, in_counts, in_first, in_type, comm);
}

namespace zoetrope {
namespace {

MpiJob* job = nullptr;

class Mpi : public testing::Test {
 protected:
  Mpi() : ranks_(job->ranks({.ring = job->size()})) { ranks_.world->set_deadline(std::chrono::seconds(30)); }
  Communicator& world() { return *ranks_.world; }
  Ranks ranks_;
};

TEST_F(Mpi, Messages) { check_messages(world()); }
TEST_F(Mpi, GatheredRows) { check_gathered_rows(world()); }
TEST_F(Mpi, Split) { check_split(world()); }

TEST_F(Mpi, TreeSums) {
  const int pairs = static_cast<int>(std::bit_floor(static_cast<unsigned>(world().size())));
  const auto part = world().split(world().rank() < pairs ? 0 : 1, world().rank());
  if (world().rank() < pairs) {
    check_tree_sums(*part);
  }
}

TEST_F(Mpi, LongExchange) { check_long_exchange(world(), 3'000'001); }

TEST_F(Mpi, LargePartsTravelAsSeveralMessages) {
  set_mpi_message_bytes_max(100'000);
  const Traffic before = world().traffic();
  check_long_exchange(world(), 950'000);
  set_mpi_message_bytes_max(std::size_t{1} << 30);
  EXPECT_EQ(world().traffic().messages - before.messages, static_cast<std::uint64_t>(2 * 10 * (world().size() - 1)));
}

TEST_F(Mpi, ExpertsEqualTheSerialReferenceAndPmpiTheClosedForm) {
  check_expert_exchange(world(), [] { return sent_to; });
}

TEST_F(Mpi, ExpertsSendNextToNothingBeyondTheLeast) { check_expert_exchange_bytes(world()); }

TEST_F(Mpi, PartsBetweenTwoRanksPairUpInOrder) { check_order_of_parts(world()); }

TEST_F(Mpi, PostedExchanges) { check_posted_exchanges(world()); }

TEST_F(Mpi, RingAttentionGivesTheBitsOfOneMember) { check_ring_attention(world(), RingTransport::kMessages); }

TEST_F(Mpi, RingAttentionGivesTheSameBitsInSharedMemory) { check_ring_attention(world(), RingTransport::kShared); }

TEST_F(Mpi, DecodesWithTrafficThatDoesNotGrow) { check_that_decode_traffic_is_flat(world()); }

TEST_F(Mpi, AnAllGatherPosingAsDispatchIsCaught) {
  if (world().size() > 1) {  // alone, nothing is sent by either
    const std::vector<std::uint64_t> before = sent_to;
    const std::uint64_t counted = world().traffic().bytes;
    check_that_the_mutant_is_caught(world());
    std::uint64_t measured = 0;
    for (std::size_t peer = 0; peer < sent_to.size(); ++peer) {
      measured += sent_to[peer] - before[peer];
    }
    EXPECT_EQ(world().traffic().bytes - counted, measured);  // what was judged is what MPI was given
    EXPECT_GT(measured, 0U);
  }
}

TEST_F(Mpi, PlansTravel) {
  ControlChannel channel(world());
  for (std::size_t bytes : {std::size_t{0}, std::size_t{10}, std::size_t{100'000}}) {
    const std::vector<std::byte> plan(bytes, std::byte{42});
    if (ranks_.leader()) {
      channel.send(plan);
    } else {
      EXPECT_EQ(channel.receive(), plan);
    }
  }
}

TEST_F(Mpi, HostMemoryIsOneForAllProcesses) {
  EXPECT_EQ(ranks_.host->local_ranks(), job->size());
  EXPECT_EQ(ranks_.host->local_rank(), job->rank());
  check_host_memory(*ranks_.host);
}

TEST_F(Mpi, LayoutsPlaceRanks) {
  if (job->size() % 2 == 0) {
    Ranks ranks = job->ranks({.ring = job->size() / 2, .tp = 2});
    EXPECT_EQ(ranks.tp->size(), 2);
    EXPECT_EQ(ranks.place.member, job->rank() / 2);
    const auto members = all_gather(*ranks.tp, std::as_bytes(std::span(&ranks.place.member, 1)), "members");
    EXPECT_EQ(members[0], members[1]);
    Ranks stages = job->ranks({.ring = job->size() / 2, .pp = 2});
    EXPECT_EQ(stages.pipe->size(), 2);
    EXPECT_EQ(stages.stage_host->local_ranks(), job->size() / 2);
    EXPECT_EQ(stages.pipe->rank(), job->rank() / (job->size() / 2));
  }
  try {
    job->ranks({.ring = job->size() + 1, .tp = 3});
    FAIL() << "a layout of other ranks";
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kStartup);
    const std::string arithmetic =
        "1 x " + std::to_string(job->size() + 1) + " x 3 = " + std::to_string((job->size() + 1) * 3);
    EXPECT_NE(std::string(error.what()).find(arithmetic), std::string::npos) << error.what();
  }
}

TEST_F(Mpi, WavesArriveAsTheyWereLeft) {
  Ranks ranks = job->ranks({.pp = job->size()});
  for (const bool shared : {false, true}) {
    check_hand_over(ranks, shared);
    check_that_nobody_waits_for_a_listener(ranks, shared);
  }
}

TEST_F(Mpi, KnowsTheHost) {
  EXPECT_EQ(job->local_ranks(), job->size());
  EXPECT_EQ(job->local_rank(), job->rank());
  EXPECT_EQ(job->ranks_sharing_cores(), job->size());  // the launcher binds nobody here
  EXPECT_EQ(MpiJob::launched(), job->size() > 1);
}

// What the library itself says that it uses (MPI_T, its tool interface); "" for a variable it does not know.
std::string setting(const char* name) {
  int index = 0;
  int count = 0;
  MPI_T_cvar_handle handle = MPI_T_CVAR_HANDLE_NULL;
  if (MPI_T_cvar_get_index(name, &index) != MPI_SUCCESS ||
      MPI_T_cvar_handle_alloc(index, nullptr, &handle, &count) != MPI_SUCCESS) {
    return "";
  }
  alignas(16) std::array<char, 4096> value{};
  char label[2] = {};
  int label_bytes = sizeof(label);
  int verbosity = 0;
  int binding = 0;
  int scope = 0;
  int text_bytes = 0;
  MPI_Datatype type = MPI_DATATYPE_NULL;
  MPI_T_enum values = MPI_T_ENUM_NULL;
  MPI_T_cvar_get_info(index, label, &label_bytes, &verbosity, &type, &values, nullptr, &text_bytes, &binding, &scope);
  MPI_T_cvar_read(handle, value.data());
  MPI_T_cvar_handle_free(&handle);
  if (type == MPI_CHAR) {
    return value.data();
  }
  int bytes = 0;
  std::uint64_t number = 0;
  MPI_Type_size(type, &bytes);
  std::memcpy(&number, value.data(), static_cast<std::size_t>(bytes));
  return std::to_string(number);
}

// Whether the launcher passed them or (a plain start) nobody did, MPI runs with the program's own settings.
TEST(MpiSettings, HoldInsideMpi) {
  int level = MPI_THREAD_SINGLE;
  MPI_Query_thread(&level);
  EXPECT_GE(level, MPI_THREAD_FUNNELED);
  ASSERT_EQ(MPI_T_init_thread(MPI_THREAD_FUNNELED, &level), MPI_SUCCESS);
  EXPECT_EQ(setting("pml"), "ob1");
  EXPECT_EQ(setting("mpi_yield_when_idle"), "1");
  if (job->size() > 1) {  // a process alone does not load the transport between processes
    EXPECT_EQ(setting("btl_vader_eager_limit"), "32768");
  }
  EXPECT_STREQ(std::getenv("OMPI_MCA_btl_vader_single_copy_mechanism"), "none");
  MPI_T_finalize();
}

// A rank that waits leaves the core to others, after a short while of polling.
TEST_F(Mpi, WaitingRanksSleep) {
  barrier(world(), "start");
  rusage before{};
  ASSERT_EQ(::getrusage(RUSAGE_THREAD, &before), 0);
  if (job->rank() == job->size() - 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
  }
  barrier(world(), "wait");
  rusage after{};
  ASSERT_EQ(::getrusage(RUSAGE_THREAD, &after), 0);
  const auto us = [](const rusage& used) {
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1'000'000 + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
  };
  EXPECT_LT(us(after) - us(before), 150'000);
}

// Last (tests run in order of writing): it looks back.
TEST_F(Mpi, NoCallWaitedInsideMpi) { EXPECT_EQ(blocking_calls, 0U); }

}  // namespace
}  // namespace zoetrope

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  sent_to.resize(1024);
  zoetrope::MpiJob job;
  zoetrope::job = &job;
  sent_to.assign(static_cast<std::size_t>(job.size()), 0);
  return zoetrope::test::run_tests(job);
}
