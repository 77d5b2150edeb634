#include "scheduler/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace zoetrope {
namespace {

constexpr std::int32_t kPad = 7;  // the placeholder of every medium

UnitSpan unit(std::int64_t first, std::int64_t tokens, std::uint64_t shows) {
  return {first, tokens, true, {shows, 0, 0, 0}};
}

// `tokens` text tokens that begin at `first_value`.
Content text(std::int64_t tokens, std::int32_t first_value = 100) {
  Content content;
  content.tokens.resize(static_cast<std::size_t>(tokens));
  std::iota(content.tokens.begin(), content.tokens.end(), first_value);
  return content;
}

Content with_units(Content content, std::vector<UnitSpan> units) {
  for (const UnitSpan& u : units) {
    std::fill_n(content.tokens.begin() + u.first_token, u.tokens, kPad);
  }
  content.units = std::move(units);
  return content;
}

std::int64_t equal(const Content& a, const Content& b) { return equal_tokens(a, b, 0, 1 << 30); }

TEST(EqualTokens, StopAtTheFirstOtherToken) {
  Content other = text(50);
  EXPECT_EQ(equal(text(80), other), 50);
  other.tokens[20] = 1;
  EXPECT_EQ(equal(text(80), other), 20);
  EXPECT_EQ(equal_tokens(text(80), other, 21, 40), 19);
  EXPECT_EQ(equal_tokens(text(80), other, 60, 70), 0);
}

// Placeholder tokens are all the same: what stands behind them decides.
TEST(EqualTokens, StopWhereAnotherMediumBegins) {
  const Content film = with_units(text(80), {unit(10, 8, 1), unit(30, 8, 2), unit(60, 8, 3)});
  EXPECT_EQ(equal(film, film), 80);
  EXPECT_EQ(equal(film, with_units(text(80), {unit(10, 8, 1), unit(30, 8, 9), unit(60, 8, 3)})), 30);
  EXPECT_EQ(equal(film, with_units(text(80), {unit(10, 8, 9), unit(30, 8, 2), unit(60, 8, 3)})), 10);
  EXPECT_EQ(equal(film, with_units(text(80), {unit(10, 8, 1), unit(30, 8, 2)})), 60);
  EXPECT_EQ(equal_tokens(film, with_units(text(80), {unit(10, 8, 1), unit(30, 8, 9), unit(60, 8, 3)}), 33, 80), 0)
      << "inside a unit that differs nothing is equal";
}

struct Kept {
  std::vector<PagePool> pools{PagePool(50), PagePool(50), PagePool(50), PagePool(50)};
  PrefixCache cache{pools};

  // Keeps a finished sequence; its pages are not used any more. Returns the nodes.
  std::vector<PrefixCache::NodeId> keep(const Span& span, const Content& content) {
    std::vector<PrefixCache::NodeId> nodes;
    PrefixCache::NodeId parent = PrefixCache::kRoot;
    const auto tokens = static_cast<std::int64_t>(content.tokens.size());
    const PrefixCache::Match match = cache.longest_in(span, content, tokens);
    for (std::int64_t page = 0; page * kPageRows < tokens; ++page) {
      PagePool& pool = pools[static_cast<std::size_t>(span.owner(page))];
      if (page < static_cast<std::int64_t>(match.pages.size())) {
        parent = nodes.emplace_back(PrefixCache::kRoot);
        continue;
      }
      if (page == static_cast<std::int64_t>(match.pages.size())) {
        parent = match.node;
      }
      EXPECT_TRUE(pool.reserve(1));
      const std::int32_t id = pool.take();
      parent = cache.add(span, parent, content, page, std::min(tokens, (page + 1) * kPageRows), id);
      EXPECT_NE(parent, PrefixCache::kRoot);
      pool.release(id);
      nodes.push_back(parent);
    }
    return nodes;
  }
};

constexpr Span kOne{.members = 1, .first_member = 0, .ring = 4}, kTwo{.members = 2, .first_member = 2, .ring = 4};

TEST(PrefixCache, FindsTheLongestPrefixOfPagesAndRows) {
  Kept kept;
  kept.keep(kOne, text(700));
  EXPECT_EQ(kept.cache.longest(text(700), 699).tokens, 699) << "the last token is always computed";
  const PrefixCache::Match match = kept.cache.longest(text(5000), 5000);
  EXPECT_EQ(match.tokens, 700);
  EXPECT_EQ(match.pages, (std::vector<std::int32_t>{0, 1}));
  EXPECT_EQ(match.rest, 2);
  EXPECT_EQ(kept.cache.longest(text(512), 5000).rest, -1);
  EXPECT_EQ(kept.cache.longest(text(700, 101), 5000).tokens, 0);
  Content other = text(700);
  other.tokens[300] = 1;
  EXPECT_EQ(kept.cache.longest(other, 5000).tokens, 300);
  EXPECT_EQ(kept.cache.longest(other, 5000).rest, 1);
  EXPECT_EQ(kept.cache.longest_in(kTwo, other, 5000).tokens, 0);
}

TEST(PrefixCache, TellsFilmsApartOnPagesOfPlaceholdersAlone) {
  Kept kept;
  const auto film = [](std::uint64_t shows) {
    return with_units(text(1000), {unit(3, 300, 1), unit(310, 600, shows)});
  };
  kept.keep(kOne, film(5));
  EXPECT_EQ(kept.cache.longest(film(5), 1000).tokens, 1000);
  EXPECT_EQ(kept.cache.longest(film(6), 1000).tokens, 310);
  kept.keep(kOne, film(6));
  EXPECT_EQ(kept.cache.longest(film(5), 1000).tokens, 1000);
  EXPECT_EQ(kept.cache.longest(film(6), 1000).tokens, 1000);
  EXPECT_EQ(kept.cache.longest(film(7), 1000).tokens, 310);
  EXPECT_EQ(kept.cache.kept(), 7U) << "the first page is kept once";
}

TEST(PrefixCache, LooksInEverySpan) {
  Kept kept;
  kept.keep(kOne, text(300));
  kept.keep(kTwo, text(900));
  const PrefixCache::Match match = kept.cache.longest(text(2000), 2000);
  EXPECT_EQ(match.tokens, 900);
  EXPECT_EQ(match.span, kTwo);
  EXPECT_EQ(kept.pools[2].reclaimable_pages(), 2);
  EXPECT_EQ(kept.pools[3].reclaimable_pages(), 2);
}

TEST(PrefixCache, ForgetsTheLeastRecentlyUsedTailsFirst) {
  Kept kept;
  const auto old = kept.keep(kOne, text(600));
  kept.keep(kOne, text(600, 5000));
  EXPECT_EQ(kept.pools[0].available_pages(), 50);
  EXPECT_EQ(kept.pools[0].free_pages(), 44);
  ASSERT_TRUE(kept.cache.reclaim(0));
  EXPECT_EQ(kept.cache.longest(text(600), 600).tokens, 512);
  kept.cache.touch(old[1]);  // used again: now the other one goes
  ASSERT_TRUE(kept.cache.reclaim(0));
  ASSERT_TRUE(kept.cache.reclaim(0));
  ASSERT_TRUE(kept.cache.reclaim(0));
  EXPECT_EQ(kept.cache.longest(text(600), 600).tokens, 512);
  EXPECT_EQ(kept.cache.longest(text(600, 5000), 600).tokens, 0);
  ASSERT_TRUE(kept.cache.reclaim(0));
  ASSERT_TRUE(kept.cache.reclaim(0));
  EXPECT_EQ(kept.cache.kept(), 0U);
  EXPECT_EQ(kept.pools[0].free_pages(), 50);
  EXPECT_FALSE(kept.cache.reclaim(0));
}

TEST(PrefixCache, PagesInUseAreNotForgotten) {
  Kept kept;
  kept.keep(kTwo, text(1000));
  const PrefixCache::Match match = kept.cache.longest(text(1000), 520);
  ASSERT_EQ(match.pages.size(), 2U);
  kept.pools[2].share(match.pages[0]);
  kept.pools[3].share(match.pages[1]);
  EXPECT_TRUE(kept.cache.reclaim(2)) << "the third page";
  EXPECT_FALSE(kept.cache.reclaim(2));
  EXPECT_FALSE(kept.cache.reclaim(3)) << "the fourth page went with the third, which it stood on";
  EXPECT_FALSE(kept.cache.reclaim(0)) << "nothing of this member";
  kept.pools[2].release(match.pages[0]);
  kept.pools[3].release(match.pages[1]);
  EXPECT_TRUE(kept.cache.reclaim(2));
  EXPECT_EQ(kept.cache.kept(), 0U);
}

// A sequence that has grown uses a page whose predecessor in the old place nobody uses any more.
TEST(PrefixCache, APageBeforeOneInUseCanBeForgotten) {
  Kept kept;
  kept.keep(kTwo, text(512));
  const PrefixCache::Match match = kept.cache.longest(text(600), 600);
  kept.pools[3].share(match.pages[1]);
  EXPECT_EQ(kept.pools[2].reclaimable_pages(), 1);
  EXPECT_TRUE(kept.cache.reclaim(2));
  EXPECT_EQ(kept.cache.kept(), 0U) << "the second page is of no use without the first";
  EXPECT_EQ(kept.pools[3].references(match.pages[1]), 1);
  EXPECT_TRUE(kept.pools[3].release(match.pages[1]));
}

TEST(PrefixCache, TheSameIsKeptOnceAndDropTakesWhatFollows) {
  Kept kept;
  const auto nodes = kept.keep(kOne, text(600));
  ASSERT_TRUE(kept.pools[0].reserve(1));
  const std::int32_t page = kept.pools[0].take();
  EXPECT_EQ(kept.cache.add(kOne, PrefixCache::kRoot, text(600), 0, 256, page), PrefixCache::kRoot);
  EXPECT_EQ(kept.pools[0].keepers(page), 0);
  kept.cache.drop(nodes[1]);
  EXPECT_FALSE(kept.cache.has(nodes[2]));
  EXPECT_TRUE(kept.cache.has(nodes[0]));
  EXPECT_EQ(kept.cache.add(kOne, nodes[1], text(600), 2, 600, page), PrefixCache::kRoot) << "what it stands on is gone";
  EXPECT_EQ(kept.cache.longest(text(600), 600).tokens, 256);
}

}  // namespace
}  // namespace zoetrope
