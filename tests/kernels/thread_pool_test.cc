#include "kernels/thread_pool.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace zoetrope {
namespace {

TEST(ThreadPool, RunsEveryPieceOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int pieces : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(pieces));
      std::atomic<bool> strange_member = false;
      pool.parallel_for(pieces, [&](std::int64_t piece, int member) {
        runs[static_cast<std::size_t>(piece)].fetch_add(1);
        if (member < 0 || member >= threads) {
          strange_member = true;
        }
      });
      for (const auto& count : runs) {
        EXPECT_EQ(count.load(), 1);
      }
      EXPECT_FALSE(strange_member);
    }
  }
}

TEST(FpEnvironment, IsGoneWithItsScope) {
  std::thread([] {  // a thread whose environment nobody has touched
    const unsigned before = _mm_getcsr();
    {
      const FpEnvironment environment;
      EXPECT_TRUE(fp_environment_is_set());
      ThreadPool pool(2);
      pool.parallel_for(2, [](std::int64_t, int) {});
    }
    EXPECT_EQ(_mm_getcsr() & 0xffc0U, before & 0xffc0U);  // but for the flags of what happened
  }).join();
}

// Plain memory written by members is visible to the caller after the job, and the next job sees what the caller wrote.
TEST(ThreadPool, OrdersMemoryBetweenJobs) {
  ThreadPool pool(4);
  std::vector<std::int64_t> values(64, 0);
  for (int job = 1; job <= 3000; ++job) {
    pool.parallel_for(64, [&](std::int64_t piece, int) { values[static_cast<std::size_t>(piece)] += piece; });
    values[0] += 1;
  }
  EXPECT_EQ(values[0], 3000);
  EXPECT_EQ(values[63], 3000 * 63);
}

TEST(ThreadPool, PoolOfOneRunsInTheCaller) {
  ThreadPool pool(1);
  const auto caller = std::this_thread::get_id();
  pool.parallel_for(3, [&](std::int64_t, int member) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(member, 0);
  });
}

TEST(ThreadPool, WorkersTakePartAndWakeFromSleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than the spin: the worker sleeps now
    std::atomic<int> inside = 0;
    std::atomic<bool> met = false;
    // Each of the two pieces waits for the other: only two threads can finish them.
    pool.parallel_for(2, [&](std::int64_t, int) {
      inside.fetch_add(1);
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (inside.load() < 2 && std::chrono::steady_clock::now() < end) {
        std::this_thread::yield();
      }
      met = inside.load() == 2;
    });
    EXPECT_TRUE(met);
  }
}

TEST(ThreadPool, RethrowsAndStaysUsable) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 20; ++round) {
      std::atomic<int> ran = 0;
      EXPECT_THROW(pool.parallel_for(100000,
                                     [&](std::int64_t piece, int) {
                                       ran.fetch_add(1);
                                       if (piece == 5) {
                                         throw std::runtime_error("piece 5");
                                       }
                                       std::this_thread::yield();
                                     }),
                   std::runtime_error);
      EXPECT_LT(ran.load(), 100000) << "pieces are drawn on after a failure";
      std::atomic<int> after = 0;
      pool.parallel_for(10, [&](std::int64_t, int) { after.fetch_add(1); });
      EXPECT_EQ(after.load(), 10);
    }
  }
}

TEST(ThreadPool, EndsWhetherItsWorkersSpinOrSleep) {
  for (int round = 0; round < 50; ++round) {
    ThreadPool pool(3);
    if (round % 2 == 0) {
      pool.parallel_for(8, [](std::int64_t, int) {});
    }
    if (round % 10 == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

TEST(ThreadPool, ManyPoolsWorkSideBySide) {
  std::vector<std::thread> owners;
  std::atomic<std::int64_t> total = 0;
  for (int owner = 0; owner < 4; ++owner) {
    owners.emplace_back([&] {
      ThreadPool pool(2);
      for (int job = 0; job < 200; ++job) {
        pool.parallel_for(16, [&](std::int64_t piece, int) { total.fetch_add(piece); });
      }
    });
  }
  for (std::thread& owner : owners) {
    owner.join();
  }
  EXPECT_EQ(total.load(), 4 * 200 * 120);
}

TEST(FpEnvironment, EveryMemberFlushesDenormals) {
  ThreadPool pool(3);
  _mm_setcsr(_mm_getcsr() & ~0x8040U);  // somebody changed the caller's: the next job sets it again
  EXPECT_FALSE(fp_environment_is_set());
  std::atomic<int> wrong = 0;
  pool.parallel_for(64, [&](std::int64_t, int) {
    volatile float small = 1e-38f;
    volatile float denormal = 1e-40f;
    if (!fp_environment_is_set() || small * 0.1f != 0.0f || denormal * 1e10f != 0.0f) {
      wrong.fetch_add(1);
    }
  });
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_TRUE(fp_environment_is_set());
  _mm_setcsr((_mm_getcsr() & ~0x6000U) | 0x2000U);  // rounding down
  EXPECT_FALSE(fp_environment_is_set());
  set_fp_environment();
  EXPECT_TRUE(fp_environment_is_set());
}

TEST(ThreadPoolDeathTest, JobsAreNotNested) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ThreadPool pool(1);
        pool.parallel_for(1, [&](std::int64_t, int) { pool.parallel_for(1, [](std::int64_t, int) {}); });
      },
      "parallel_for inside parallel_for");
}

}  // namespace
}  // namespace zoetrope
