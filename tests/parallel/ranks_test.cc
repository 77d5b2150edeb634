#include "parallel/ranks.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <functional>
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

// The group has `size` ranks of the job, the i-th of them rank_at(i), and this one stands at `index`.
void expect_group(Communicator& group, const Place& place, int index, const std::function<int(int)>& rank_at,
                  int size) {
  EXPECT_EQ(group.rank(), index);
  ASSERT_EQ(group.size(), size);
  const auto ranks = all_gather(group, std::as_bytes(std::span(&place.rank, 1)), "who is in the group");
  for (int i = 0; i < size; ++i) {
    int rank = -1;
    std::memcpy(&rank, ranks[static_cast<std::size_t>(i)].data(), sizeof(rank));
    EXPECT_EQ(rank, rank_at(i));
  }
}

TEST(RanksTest, PlacesAndGroupsFollowTheLayout) {
  std::atomic<int> ran{0};
  const Layout layout{.ring = 3, .tp = 2, .pp = 2};
  run_ranks(layout, [&](Ranks& ranks) {
    ++ran;
    EXPECT_EQ(ranks.layout, layout);
    const Place& place = ranks.place;
    EXPECT_EQ(ranks.world->size(), 12);
    EXPECT_EQ(ranks.world->rank(), place.rank);
    EXPECT_EQ(place.member, place.rank / 2 % 3);
    expect_group(
        *ranks.tp, place, place.tp_index, [&](int i) { return rank_of(layout, place.stage, place.member, i); }, 2);
    expect_group(
        *ranks.ring, place, place.member, [&](int i) { return rank_of(layout, place.stage, i, place.tp_index); }, 3);
    expect_group(
        *ranks.pipe, place, place.stage, [&](int i) { return rank_of(layout, i, place.member, place.tp_index); }, 2);
    expect_group(*ranks.stage, place, place.rank % 6, [&](int i) { return place.stage * 6 + i; }, 6);
    EXPECT_EQ(ranks.host->local_ranks(), 12);
    EXPECT_EQ(ranks.stage_host->local_ranks(), 6);
    EXPECT_EQ(ranks.first_stage(), place.rank < 6);
    EXPECT_EQ(ranks.last_stage(), place.rank >= 6);
  });
  EXPECT_EQ(ran, 12);
}

TEST(RanksTest, BooksAreThoseOfTheCommunicatorsTheyAreNamedAfter) {
  run_ranks({.ring = 2, .tp = 2, .pp = 2}, [](Ranks& ranks) {
    const std::array<Communicator*, kAxes> axes{ranks.world.get(), ranks.stage.get(), ranks.tp.get(), ranks.ring.get(),
                                                ranks.pipe.get()};
    for (std::size_t axis = 0; axis < kAxes; ++axis) {
      for (std::size_t i = 0; i <= axis; ++i) {
        barrier(*axes[axis], kAxisNames[axis]);
      }
    }
    const auto books = books_of(ranks);
    for (std::size_t axis = 0; axis < kAxes; ++axis) {
      EXPECT_EQ(books[axis].axis, kAxisNames[axis]);
      EXPECT_EQ(books[axis].book->total(), axes[axis]->traffic());
      const TrafficEntry& last = books[axis].book->entries().back();
      EXPECT_EQ(last.what, kAxisNames[axis]);
      const auto rounds = std::bit_width(static_cast<unsigned>(axes[axis]->size()) - 1);
      EXPECT_EQ(last.sent.messages, (axis + 1) * static_cast<std::size_t>(rounds));
    }
  });
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
