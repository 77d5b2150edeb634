// Handles of exchanges under way, over threads; the suites of collectives run them over MPI too.
#include "parallel/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "parallel/ranks.h"

namespace zoetrope {
namespace {

using namespace std::chrono_literals;

// What rank 1 is told when rank 0 does `leave` with a handle that nobody answers.
std::string told_when(const std::function<void(Communicator&, Exchange)>& leave) {
  std::string told;
  try {
    run_ranks({.ring = 2}, [&](Ranks& ranks) {
      Communicator& comm = *ranks.world;
      std::vector<std::byte> room(100);
      const ReceivePart receive{1 - comm.rank(), room};
      barrier(comm, "all are here");
      if (comm.rank() == 0) {
        leave(comm, comm.post({}, {&receive, 1}, "a promise"));
        std::this_thread::sleep_for(300ms);
        return;
      }
      try {
        std::this_thread::sleep_for(50ms);
        comm.exchange({}, {&receive, 1}, "an answer");
      } catch (const Error& error) {
        told = error.what();
      }
    });
  } catch (const Error&) {
  }
  return told;
}

TEST(Exchange, OneThatIsDroppedWhileUnderWayStopsTheJob) {
  const std::string told = told_when([](Communicator&, const Exchange&) {});
  EXPECT_NE(told.find("'a promise' was dropped"), std::string::npos) << told;
  // Also when another takes its place.
  const std::string replaced = told_when([](Communicator&, Exchange exchange) { exchange = Exchange(); });
  EXPECT_NE(replaced.find("'a promise' was dropped"), std::string::npos) << replaced;
}

TEST(Exchange, ItsDeadlineHoldsForWaitingAndForTesting) {
  for (const bool tested : {false, true}) {
    const auto begun = std::chrono::steady_clock::now();
    const std::string told = told_when([&](Communicator& comm, Exchange exchange) {
      comm.set_deadline(100ms);
      try {
        if (tested) {
          while (!exchange.test()) {
          }
        } else {
          exchange.wait();
        }
        ADD_FAILURE() << "nobody sent";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("'a promise'"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("rank 1"), std::string::npos) << error.what();
      }
    });
    EXPECT_NE(told.find("0.1 s"), std::string::npos) << told;
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
  }
}

TEST(Exchange, ATestSeesThatTheJobWasStopped) {
  std::atomic<int> posted{0};
  run_ranks({.ring = 2}, [&posted](Ranks& ranks) {
    std::byte byte{};
    const ReceivePart receive{1 - ranks.world->rank(), {&byte, 1}};
    Exchange exchange = ranks.world->post({}, {&receive, 1}, "in vain");
    ++posted;
    if (ranks.world->rank() == 0) {
      while (posted < 2) {  // posting itself refuses in a job that was stopped
        std::this_thread::yield();
      }
      ranks.world->abort("enough");
    }
    EXPECT_THROW(
        {
          while (!exchange.test()) {
          }
        },
        Error);
  });
}

TEST(Exchange, ItsTimeIsBookedAsHiddenOrExposed) {
  run_ranks({.ring = 2}, [](Ranks& ranks) {
    Communicator& comm = *ranks.world;
    const std::byte out{7};
    std::byte in{};
    const SendPart send{1 - comm.rank(), {&out, 1}};
    const ReceivePart receive{1 - comm.rank(), {&in, 1}};
    Exchange exchange = comm.post({&send, 1}, {&receive, 1}, "under work");
    std::this_thread::sleep_for(30ms);
    exchange.wait();
    exchange.wait();  // done: nothing
    EXPECT_TRUE(exchange.test());
    EXPECT_EQ(in, out);
    barrier(comm, "both are done");
    if (comm.rank() == 0) {
      std::this_thread::sleep_for(30ms);
    }
    comm.exchange({&send, 1}, {&receive, 1}, "waited for");
    const auto& entries = comm.book().entries();
    const auto entry = [&](std::string_view what) {
      return *std::find_if(entries.begin(), entries.end(), [what](const TrafficEntry& e) { return e.what == what; });
    };
    EXPECT_EQ(entry("under work").exchanges, 1U);
    EXPECT_EQ(entry("under work").sent.bytes, 1U);
    EXPECT_GE(entry("under work").hidden_seconds, 0.029);
    EXPECT_LT(entry("waited for").hidden_seconds, 0.02);
    if (comm.rank() == 1) {
      EXPECT_GE(entry("waited for").exposed_seconds, 0.02);
    }
  });
}

}  // namespace
}  // namespace zoetrope
