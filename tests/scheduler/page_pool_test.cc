#include "scheduler/page_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace zoetrope {
namespace {

TEST(PagePool, ReservesNoMoreThanItHas) {
  PagePool pool(10);
  EXPECT_TRUE(pool.reserve(7));
  EXPECT_FALSE(pool.reserve(4));
  EXPECT_TRUE(pool.reserve(3));
  EXPECT_EQ(pool.free_pages(), 0);
  pool.unreserve(3);
  EXPECT_EQ(pool.free_pages(), 3);
}

TEST(PagePool, HandsOutEveryPageOnce) {
  PagePool pool(64);
  ASSERT_TRUE(pool.reserve(64));
  std::set<std::int32_t> seen;
  for (int i = 0; i < 64; ++i) {
    EXPECT_TRUE(seen.insert(pool.take()).second);
  }
  EXPECT_EQ(*seen.begin(), 0);
  EXPECT_EQ(*seen.rbegin(), 63);
  EXPECT_EQ(pool.reserved(), 0);
}

TEST(PagePool, ASharedPageIsFreeAfterItsLastUser) {
  PagePool pool(2);
  ASSERT_TRUE(pool.reserve(1));
  const std::int32_t page = pool.take();
  pool.share(page);
  EXPECT_EQ(pool.references(page), 2);
  EXPECT_FALSE(pool.release(page));
  EXPECT_EQ(pool.free_pages(), 1);
  EXPECT_TRUE(pool.release(page));
  EXPECT_EQ(pool.free_pages(), 2);
}

TEST(PagePool, AKeptPageIsThereForOthersUntilItIsForgotten) {
  PagePool pool(3);
  ASSERT_TRUE(pool.reserve(1));
  const std::int32_t page = pool.take();
  pool.keep(page);
  EXPECT_EQ(pool.reclaimable_pages(), 0) << "it is used";
  EXPECT_FALSE(pool.release(page));
  EXPECT_EQ(pool.reclaimable_pages(), 1);
  EXPECT_EQ(pool.free_pages(), 2);
  EXPECT_EQ(pool.available_pages(), 3);
  pool.share(page);
  EXPECT_EQ(pool.available_pages(), 2);
  EXPECT_FALSE(pool.forget(page));
  EXPECT_TRUE(pool.release(page));
  EXPECT_EQ(pool.free_pages(), 3);
  EXPECT_EQ(pool.reclaimable_pages(), 0);
}

TEST(PagePool, APageThatIsLeftIsHandedOutLastUntilTheStepIsOver) {
  PagePool pool(4);
  ASSERT_TRUE(pool.reserve(4));
  const std::int32_t left = pool.take(), other = pool.take();
  pool.leave(left);
  EXPECT_EQ(pool.references(left), 0);
  EXPECT_EQ(pool.free_pages(), 1);
  EXPECT_NE(pool.take(), left);
  EXPECT_NE(pool.take(), left);
  ASSERT_TRUE(pool.reserve(1));
  EXPECT_EQ(pool.take(), left) << "nothing else is there";
  pool.leave(left);
  pool.settle();
  pool.release(other);
  ASSERT_TRUE(pool.reserve(2));
  EXPECT_EQ(pool.take(), other);
  EXPECT_EQ(pool.take(), left);
}

// A kept page that is left is not free; when it is forgotten it is like any other.
TEST(PagePool, AKeptPageThatIsLeftStays) {
  PagePool pool(1);
  ASSERT_TRUE(pool.reserve(1));
  const std::int32_t page = pool.take();
  pool.keep(page);
  pool.leave(page);
  pool.settle();
  EXPECT_EQ(pool.free_pages(), 0);
  EXPECT_EQ(pool.reclaimable_pages(), 1);
  EXPECT_TRUE(pool.forget(page));
  EXPECT_EQ(pool.free_pages(), 1);
}

TEST(PagePoolDeathTest, BrokenUseIsABug) {
  PagePool pool(2);
  EXPECT_DEATH(pool.take(), "nobody reserved");
  EXPECT_DEATH(pool.release(0), "free page was released");
  EXPECT_DEATH(pool.references(2), "outside the pool");
}

}  // namespace
}  // namespace zoetrope
