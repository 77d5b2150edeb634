#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "kernels/body.h"
#include "kernels/large_memory.h"
#include "kernels/thread_pool.h"
#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "parallel/ranks.h"
#include "runtime/model/model.h"

namespace zoetrope {
namespace {

constexpr KvLayout kLayout{.kv_heads = 2, .head_dim = 32, .precision = Precision::kBf16};

TEST(KvCache, PagesOfAllLayersAreApart) {
  KvCache cache(kLayout, /*layers=*/3, /*pages=*/4);
  const std::size_t bytes = kLayout.page_bytes();
  EXPECT_EQ(KvCache::bytes_per_page(kLayout, 3), 3 * bytes);
  for (int layer = 0; layer < 3; ++layer) {
    for (int page = 0; page < 4; ++page) {
      std::memset(cache.layer(layer).page(page), 1 + layer * 4 + page, bytes);
    }
  }
  for (int layer = 0; layer < 3; ++layer) {
    for (int page = 0; page < 4; ++page) {
      const auto expected = static_cast<std::byte>(1 + layer * 4 + page);
      EXPECT_EQ(cache.layer(layer).page(page)[0], expected);
      EXPECT_EQ(cache.layer(layer).page(page)[bytes - 1], expected);
    }
  }
}

TEST(KvCache, OpenedPagesAreZeroInEveryLayerAndOthersKeepWhatTheyHold) {
  KvCache cache(kLayout, 2, 3);
  const std::size_t bytes = kLayout.page_bytes();
  for (int layer = 0; layer < 2; ++layer) {
    std::memset(cache.layer(layer).page(0), 0xff, 3 * bytes);
  }
  cache.open_page(1);
  for (int layer = 0; layer < 2; ++layer) {
    const std::byte* page = cache.layer(layer).page(1);
    for (std::size_t i = 0; i < bytes; ++i) {
      ASSERT_EQ(page[i], std::byte{0}) << "layer " << layer << " byte " << i;
    }
    EXPECT_EQ(page[-1], std::byte{0xff});
    EXPECT_EQ(page[bytes], std::byte{0xff});
  }
}

TEST(KvCache, MemoryOfPagesIsInHugePagesAndNoMoreThanThePool) {
  const auto bytes = static_cast<std::int64_t>(kLayout.page_bytes());
  constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
  EXPECT_EQ(KvCache(kLayout, 3, 4).resident_bytes(4), 12 * bytes) << "smaller than a huge page";
  EXPECT_EQ(KvCache(kLayout, 3, 4).resident_bytes(0), 0);
  const auto apart = static_cast<std::int32_t>(4 * kHugePage / bytes);  // a layer's region is of four huge pages
  const KvCache cache(kLayout, 3, apart);
  EXPECT_EQ(cache.resident_bytes(apart), 12 * kHugePage);
  if (!gives_huge_pages(MemoryKind::kPrivate)) {
    EXPECT_EQ(cache.resident_bytes(1), 3 * bytes);
    EXPECT_EQ(cache.resident_bytes(apart / 2 + 1), 3 * (apart / 2 + 1) * bytes);
    return;
  }
  EXPECT_EQ(cache.resident_bytes(1), 3 * kHugePage);
  EXPECT_EQ(cache.resident_bytes(apart / 2), 6 * kHugePage);
  EXPECT_EQ(cache.resident_bytes(apart / 2 + 1), 9 * kHugePage);
}

// Pools of 3 MiB side by side: that of member 1 begins in the middle of a huge page, and ends where all do.
TEST(KvCache, SharedMemoryOfPagesIsInHugePagesWhereItHasThem) {
  run_ranks({.ring = 2}, [](Ranks& ranks) {
    constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
    const auto bytes = static_cast<std::int64_t>(kLayout.page_bytes());
    const auto pages = static_cast<std::int32_t>(3 * kHugePage / 2 / bytes);
    const KvCache cache(kLayout, 1, pages, ranks, RingTransport::kShared);
    const bool huge = cache.ring_memory().huge_pages();
    EXPECT_EQ(cache.resident_bytes(pages), huge ? 2 * kHugePage : pages * bytes);
    EXPECT_EQ(cache.resident_bytes(1), huge ? kHugePage : bytes);
    barrier(*ranks.ring, "both have looked");
  });
}

// Rows that were appended to one page and copied to another are what appending them there makes.
TEST(KvCache, CopiedRowsAreThoseThatWereWrittenAndZerosBehind) {
  ThreadPool pool(1);
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    const KvLayout layout{.kv_heads = 2, .head_dim = 24, .precision = precision};
    const Compute compute{&body(best_body()), &pool, precision};
    std::vector<float> k(256 * 48), v(k.size());
    for (std::size_t i = 0; i < k.size(); ++i) {
      k[i] = static_cast<float>(i % 97) - 40;
      v[i] = static_cast<float>(i % 89) - 30;
    }
    const auto append = [&](KvCache& cache, std::int32_t page, int rows) {
      std::vector<KvSlot> slots;
      for (int row = 0; row < rows; ++row) {
        slots.push_back({page, row});
      }
      for (int layer = 0; layer < 2; ++layer) {
        append_kv(compute, layout, cache.layer(layer), {k.data(), rows, 48}, {v.data(), rows, 48}, slots);
      }
    };
    KvCache cache(layout, 2, 3);
    cache.open_page(0);
    append(cache, 0, 256);
    for (const int rows : {1, 2, 31, 128, 255}) {
      cache.open_page(1);
      append(cache, 1, rows);
      cache.copy_rows(0, 2, rows);
      for (int layer = 0; layer < 2; ++layer) {
        EXPECT_EQ(std::memcmp(cache.layer(layer).page(1), cache.layer(layer).page(2), layout.page_bytes()), 0) << rows;
        EXPECT_NE(std::memcmp(cache.layer(layer).page(0), cache.layer(layer).page(2), layout.page_bytes()), 0) << rows;
      }
    }
  }
}

TEST(KvCache, RefusesASizeBeyondMemory) {
  const KvLayout huge{.kv_heads = 1 << 12, .head_dim = 1 << 12, .precision = Precision::kFp32};
  EXPECT_THROW(KvCache(huge, 1 << 10, std::numeric_limits<std::int32_t>::max()), Error);
}

}  // namespace
}  // namespace zoetrope
