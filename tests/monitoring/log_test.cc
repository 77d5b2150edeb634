#include "monitoring/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <thread>
#include <vector>

namespace zoetrope {
namespace {

std::string logged(const std::function<void()>& write) {
  testing::internal::CaptureStderr();
  write();
  return testing::internal::GetCapturedStderr();
}

class LogTest : public testing::Test {
 protected:
  void TearDown() override {
    log::set_level(log::Level::kWarning);
    log::set_rank(-1);
  }
};

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

TEST_F(LogTest, WritesOneLinePerEvent) {
  const std::string line = logged([] {
    log::warning("slow_step", {{"step", 7}, {"seconds", 1.5}, {"kind", "prefill"}});
  });
  EXPECT_TRUE(ends_with(line, "warning slow_step step=7 seconds=1.5 kind=prefill\n")) << line;
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST_F(LogTest, KeepsQuietBelowItsLevel) {
  EXPECT_EQ(logged([] { log::info("start"); }), "");
  log::set_level(log::Level::kInfo);
  EXPECT_NE(logged([] { log::info("start"); }), "");
  EXPECT_EQ(logged([] { log::write(log::Level::kDebug, "detail"); }), "");
  log::set_level(log::Level::kError);
  EXPECT_EQ(logged([] { log::warning("odd"); }), "");
  EXPECT_NE(logged([] { log::error("broken"); }), "");
}

TEST_F(LogTest, ShowsTheRank) {
  log::set_rank(3);
  EXPECT_TRUE(ends_with(logged([] { log::error("lost", {{"peer", 5}}); }), "error lost rank=3 peer=5\n"));
  log::set_rank(-1);
  EXPECT_TRUE(ends_with(logged([] { log::error("lost", {{"peer", 5}}); }), "error lost peer=5\n"));
}

TEST_F(LogTest, QuotesWhatWouldSplitTheLine) {
  const auto shown = [](const std::string& value) {
    const std::string line = logged([&] { log::error("e", {{"v", value}}); });
    return line.substr(line.find("v=") + 2);
  };
  EXPECT_EQ(shown("plain"), "plain\n");
  EXPECT_EQ(shown(""), "\"\"\n");
  EXPECT_EQ(shown("two words"), "\"two words\"\n");
  EXPECT_EQ(shown("a=b"), "\"a=b\"\n");
  EXPECT_EQ(shown("say \"x\""), "\"say \\\"x\\\"\"\n");
  EXPECT_EQ(shown("a\\b"), "\"a\\\\b\"\n");
  EXPECT_EQ(shown("a\nb\r\x1b[0m"), "\"a\\x0ab\\x0d\\x1b[0m\"\n");
  EXPECT_EQ(shown("{} %s"), "\"{} %s\"\n");
}

TEST_F(LogTest, KeepsLinesWholeUnderThreads) {
  const std::string text = logged([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 50; ++i) {
          log::error("event", {{"text", "0123456789012345678901234567890123456789"}});
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  });
  std::size_t lines = 0;
  for (std::size_t at = 0; at < text.size(); ++lines) {
    const std::size_t end = text.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    EXPECT_TRUE(ends_with(text.substr(at, end - at), "error event text=0123456789012345678901234567890123456789"));
    at = end + 1;
  }
  EXPECT_EQ(lines, 200u);
}

}  // namespace
}  // namespace zoetrope
