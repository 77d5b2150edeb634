#include "runtime/engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace zoetrope {
namespace {

TEST(StopMatcher, PassesTextThrough) {
  StopMatcher stops({});
  EXPECT_EQ(stops.add("abc"), "abc");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopMatcher, HoldsBackWhatCouldBecomeAStop) {
  StopMatcher stops({"END"});
  EXPECT_EQ(stops.add("textE"), "text");
  EXPECT_EQ(stops.add("N"), "");
  EXPECT_EQ(stops.add("X"), "ENX");
  EXPECT_FALSE(stops.stopped());
  EXPECT_EQ(stops.add("..EN"), "..");
  EXPECT_EQ(stops.finish(), "EN");
}

TEST(StopMatcher, TheEarliestStopWins) {
  StopMatcher stops({"zz", "b"});
  EXPECT_EQ(stops.add("aabzz"), "aa");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.add("more"), "");
}

// Whatever the pieces, the text before the first stop comes out, and nothing else.
TEST(StopMatcher, PiecesDoNotMatter) {
  std::mt19937 random(3);
  const std::vector<std::string> stops{"aba", "bb", "cabc"};
  int stopped = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (unsigned i = random() % 20; i > 0; --i) {
      text += static_cast<char>('a' + random() % 3);
    }
    std::size_t first = std::string::npos;
    for (const auto& stop : stops) {
      first = std::min(first, text.find(stop));
    }
    // Text beyond the stop may arrive in the same piece as its end, so the earliest complete stop in arrival order
    // counts: feed single characters for the strict check, pieces for the prefix check.
    StopMatcher matcher(stops);
    std::string out;
    for (const char c : text) {
      out += matcher.add(std::string(1, c));
    }
    out += matcher.finish();
    if (matcher.stopped()) {
      ++stopped;
      EXPECT_LT(out.size(), text.size());
      EXPECT_EQ(text.compare(0, out.size(), out), 0);
      bool ends_at_stop = false;
      for (const auto& stop : stops) {
        ends_at_stop |= text.compare(out.size(), stop.size(), stop) == 0;
        EXPECT_EQ(out.find(stop), std::string::npos);
      }
      EXPECT_TRUE(ends_at_stop);
    } else {
      EXPECT_EQ(out, text);
      EXPECT_EQ(first, std::string::npos);
    }
  }
  EXPECT_GT(stopped, 1000);
}

}  // namespace
}  // namespace zoetrope
