#include "parallel/ranks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "monitoring/error.h"
#include "parallel/collectives.h"

namespace zoetrope {
namespace {

TEST(RanksTest, SelfIsOneRankWithoutMessages) {
  Ranks ranks = self_ranks();
  EXPECT_EQ(ranks.layout, Layout{});
  EXPECT_TRUE(ranks.leader());
  EXPECT_EQ(ranks.world->size(), 1);
  EXPECT_EQ(ranks.tp->size(), 1);
  EXPECT_EQ(ranks.host->local_ranks(), 1);
  EXPECT_FALSE(ranks.host_name.empty());
}

TEST(RanksTest, PlacesAndTpGroupsFollowTheLayout) {
  std::atomic<int> ran{0};
  const Layout layout{.ring = 3, .tp = 2};
  run_ranks(layout, [&](Ranks& ranks) {
    ++ran;
    EXPECT_EQ(ranks.layout, layout);
    EXPECT_EQ(ranks.world->size(), 6);
    EXPECT_EQ(ranks.world->rank(), ranks.place.rank);
    EXPECT_EQ(ranks.place.member, ranks.place.rank / 2);
    EXPECT_EQ(ranks.tp->size(), 2);
    EXPECT_EQ(ranks.tp->rank(), ranks.place.tp_index);
    const auto members = all_gather(*ranks.tp, std::as_bytes(std::span(&ranks.place.member, 1)), "members");
    EXPECT_EQ(members[0], members[1]);
  });
  EXPECT_EQ(ran, 6);
}

// The error of one rank wakes the others at once, and it is the one that comes out.
TEST(RanksTest, TheFirstErrorEndsAllAndComesOut) {
  const auto start = std::chrono::steady_clock::now();
  std::atomic<int> woken{0};
  try {
    run_ranks({.ring = 5}, [&](Ranks& ranks) {
      if (ranks.place.rank == 3) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        throw std::runtime_error("rank 3 is out of paper");
      }
      try {
        barrier(*ranks.world, "never");
      } catch (const Error& error) {
        ++woken;
        EXPECT_EQ(error.radius(), Radius::kCluster);
        EXPECT_NE(std::string(error.what()).find("rank 3 stopped the job: rank 3 is out of paper"), std::string::npos)
            << error.what();
        throw;
      }
    });
    FAIL() << "an error was swallowed";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "rank 3 is out of paper");
  }
  EXPECT_EQ(woken, 4);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(RanksTest, LaunchedReadsTheLaunchersVariables) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "SLURM_NTASKS"}) {
    ::unsetenv(name);
  }
  EXPECT_FALSE(MpiJob::launched());
  ::setenv("SLURM_NTASKS", "4", 1);  // a plain start inside a batch script
  EXPECT_FALSE(MpiJob::launched());
  ::setenv("PMIX_RANK", "0", 1);
  EXPECT_TRUE(MpiJob::launched());
  ::unsetenv("PMIX_RANK");
  ::setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
  EXPECT_FALSE(MpiJob::launched());
  ::setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  EXPECT_TRUE(MpiJob::launched());
  ::setenv("OMPI_COMM_WORLD_SIZE", "many", 1);
  EXPECT_FALSE(MpiJob::launched());
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
  ::setenv("PMI_SIZE", "8", 1);
  EXPECT_TRUE(MpiJob::launched());
  ::unsetenv("PMI_SIZE");
  ::unsetenv("SLURM_NTASKS");
}

}  // namespace
}  // namespace zoetrope
