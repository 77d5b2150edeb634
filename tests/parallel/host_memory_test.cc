#include "parallel/host_memory.h"

#include <gtest/gtest.h>

#include "monitoring/error.h"
#include "parallel/ranks.h"
#include "tests/parallel/host_memory_suite.h"

namespace zoetrope {
namespace {

TEST(HostMemoryTest, IsTheSameForAllRanks) {
  for (const int n : {1, 2, 5}) {
    run_ranks({.ring = n}, [n](Ranks& ranks) {
      EXPECT_EQ(ranks.host->local_ranks(), n);
      check_host_memory(*ranks.host);
    });
  }
}

TEST(HostMemoryTest, PrivateIsOneRanks) {
  const auto memory = private_memory();
  EXPECT_EQ(memory->local_rank(), 0);
  EXPECT_EQ(memory->local_ranks(), 1);
  check_host_memory(*memory);
}

TEST(HostMemoryTest, AnImpossibleSizeIsRefusedAtEveryRank) {
  int refused = 0;
  run_ranks({.ring = 1}, [&](Ranks& ranks) {
    EXPECT_THROW(ranks.host->allocate(std::size_t{1} << 60), Error);
    ++refused;
  });
  std::atomic<int> all{0};
  run_ranks({.ring = 3}, [&](Ranks& ranks) {
    try {
      ranks.host->allocate(std::size_t{1} << 60);
    } catch (const Error& error) {
      EXPECT_EQ(error.radius(), Radius::kStartup);
      EXPECT_NE(std::string(error.what()).find("local rank"), std::string::npos) << error.what();
      ++all;
    }
  });
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(all, 3);
}

}  // namespace
}  // namespace zoetrope
