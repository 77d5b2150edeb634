#include "parallel/backend/threads.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

bool holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// Runs body; the message of the Error it ends with, "" when it ends well.
template <typename Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kCluster);
    return error.what();
  }
  return "";
}

TEST(Threads, ADeadlineNamesTheMissingRank) {
  std::atomic<int> named{0};
  const auto start = Clock::now();
  run_ranks({.ring = 4}, [&](Ranks& ranks) {
    barrier(*ranks.world, "all are here");
    if (ranks.place.rank == 2) {
      return;  // is silent from now on
    }
    ranks.world->set_deadline(200ms);
    const std::string said = error_of([&] { all_gather(*ranks.world, {}, "the roll call"); });
    EXPECT_TRUE(holds(said, "rank 2")) << said;
    EXPECT_TRUE(holds(said, "the roll call")) << said;
    EXPECT_TRUE(holds(said, "0.2 s")) << said;
    ++named;
  });
  EXPECT_EQ(named, 3);
  EXPECT_GE(Clock::now() - start, 190ms);
  EXPECT_LT(Clock::now() - start, 5s);
}

// Rank 0 waits for 1, which waits for 2, which sleeps: the one to look at is 2.
TEST(Threads, ADeadlineFollowsWhoWaitsForWhom) {
  std::string said;
  run_ranks({.ring = 3}, [&](Ranks& ranks) {
    Communicator& comm = *ranks.world;
    barrier(comm, "all are here");
    std::byte byte{};
    const ReceivePart receive{ranks.place.rank + 1, {&byte, 1}};
    if (ranks.place.rank == 0) {
      std::this_thread::sleep_for(50ms);
      comm.set_deadline(150ms);
      said = error_of([&] { comm.exchange({}, {&receive, 1}, "chain"); });
    } else if (ranks.place.rank == 1) {
      error_of([&] { comm.exchange({}, {&receive, 1}, "chain"); });
    } else {
      std::this_thread::sleep_for(400ms);
    }
  });
  EXPECT_TRUE(holds(said, "rank 1, which waits for rank 2")) << said;
}

TEST(Threads, ASenderWaitsForItsReceiverAndGivesUpToo) {
  run_ranks({.ring = 2}, [&](Ranks& ranks) {
    if (ranks.place.rank == 0) {
      ranks.world->set_deadline(100ms);
      const std::byte byte{1};
      const SendPart send{1, {&byte, 1}};
      const std::string said = error_of([&] { ranks.world->exchange({&send, 1}, {}, "unwanted"); });
      EXPECT_TRUE(holds(said, "nothing from rank 1")) << said;
    }
  });
}

TEST(Threads, AbortWakesSleepersAtOnceAndForGood) {
  std::atomic<int> woken{0};
  run_ranks({.ring = 6}, [&](Ranks& ranks) {
    Communicator& comm = *ranks.world;
    if (ranks.place.rank == 5) {
      std::this_thread::sleep_for(100ms);
      std::thread([&] { comm.abort("enough"); }).join();  // from any thread
      return;
    }
    const auto start = Clock::now();
    EXPECT_TRUE(holds(error_of([&] { barrier(comm, "sleep"); }), "rank 5 stopped the job: enough"));
    EXPECT_LT(Clock::now() - start, 5s);  // the deadline is 120 s
    EXPECT_TRUE(holds(error_of([&] { barrier(comm, "later"); }), "enough"));
    EXPECT_TRUE(holds(error_of([&] { barrier(*ranks.tp, "tp is alone"); }), ""));
    ++woken;
  });
  EXPECT_EQ(woken, 5);
}

TEST(Threads, LengthsThatDifferAreNamed) {
  std::string said;
  try {
    run_ranks({.ring = 2}, [](Ranks& ranks) {
      std::vector<std::byte> bytes(ranks.place.rank == 0 ? 10 : 7);
      const SendPart send{1, bytes};
      const ReceivePart receive{0, bytes};
      if (ranks.place.rank == 0) {
        ranks.world->exchange({&send, 1}, {}, "odd");
      } else {
        ranks.world->exchange({}, {&receive, 1}, "odd");
      }
    });
  } catch (const Error& error) {
    said = error.what();
  }
  EXPECT_TRUE(holds(said, "found 10 bytes, expected 7 bytes")) << said;
}

TEST(Threads, WaitingRanksSleep) {
  run_ranks({.ring = 4}, [](Ranks& ranks) {
    if (ranks.place.rank == 3) {
      std::this_thread::sleep_for(500ms);
    }
    barrier(*ranks.world, "wait");
    rusage used{};
    ASSERT_EQ(::getrusage(RUSAGE_THREAD, &used), 0);
    const auto cpu_us =
        (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1'000'000 + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    EXPECT_LT(cpu_us, 100'000);
  });
}

TEST(Threads, TrafficCountsWhatGoesToOthers) {
  run_ranks({.ring = 3}, [](Ranks& ranks) {
    const Traffic before = ranks.world->traffic();
    const std::vector<std::byte> bytes(100);
    all_gather(*ranks.world, bytes, "counted");
    EXPECT_EQ(ranks.world->traffic().messages - before.messages, 4U);
    EXPECT_EQ(ranks.world->traffic().bytes - before.bytes, 2 * (8 + 100U));
  });
}

}  // namespace
}  // namespace zoetrope
