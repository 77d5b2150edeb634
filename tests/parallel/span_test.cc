#include "parallel/span.h"

#include <gtest/gtest.h>

#include <vector>

namespace zoetrope {
namespace {

// Counted one by one, every page has one owner and every row one member, and the closed forms count the same.
TEST(Span, ClosedFormsCountPagesAndRows) {
  for (const int members : {1, 2, 4, 8}) {
    const Span span{.members = members, .first_member = 5, .ring = 9};
    for (const std::int64_t first : {0, 1, 31, 32, 33, 300}) {
      for (const std::int64_t end : {0, 1, 33, 64, 301, 1000}) {
        for (int slot = 0; slot < members; ++slot) {
          std::int64_t rows = 0;
          for (std::int64_t token = first; token < end; ++token) {
            rows += span.computes(token) == span.member_at(slot) ? 1 : 0;
          }
          EXPECT_EQ(span.rows_of(slot, first, end), rows) << members << ' ' << slot << ' ' << first << ' ' << end;
          std::int64_t pages = 0;
          for (std::int64_t page = 0; page < end; ++page) {
            pages += span.owner(page) == span.member_at(slot) ? 1 : 0;
          }
          EXPECT_EQ(span.pages_of(slot, end), pages) << members << ' ' << slot << ' ' << end;
        }
      }
    }
    for (int member = 0; member < 9; ++member) {
      EXPECT_EQ(span.contains(member), span.slot_of(member) < members);
      EXPECT_EQ(span.member_at(span.slot_of(member)), member);
    }
  }
}

TEST(Span, KnowsWhetherOneHostHasItsMembers) {
  const std::vector<std::int32_t> hosts = {3, 7, 7, 7, 3};
  const auto on_one_host = [&](int members, int first) {
    return Span{.members = members, .first_member = first, .ring = 5}.on_one_host(hosts);
  };
  EXPECT_TRUE(on_one_host(2, 1));
  EXPECT_TRUE(on_one_host(2, 2));
  EXPECT_TRUE(on_one_host(2, 4)) << "it wraps";
  EXPECT_TRUE(on_one_host(1, 0));
  EXPECT_FALSE(on_one_host(2, 0));
  EXPECT_FALSE(on_one_host(2, 3));
  EXPECT_FALSE(on_one_host(4, 1));
  EXPECT_FALSE(on_one_host(4, 4));
  for (const int members : {1, 2}) {
    EXPECT_FALSE((Span{.members = members, .first_member = 0, .ring = 5}.on_one_host({})))
        << "nothing is known of hosts";
  }
}

}  // namespace
}  // namespace zoetrope
