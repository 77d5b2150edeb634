#include "runtime/batch/journal.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <algorithm>
#include <sstream>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

class JournalFile : public testing::Test {
 protected:
  fs::path file = fs::temp_directory_path() / ("zoetrope-journal-" + std::to_string(::getpid()) + ".jsonl");
  void SetUp() override { fs::remove(file); }
  void TearDown() override { fs::remove(file); }
  void write(const std::string& text) { std::ofstream(file, std::ios::binary) << text; }
  std::string read() {
    std::ostringstream out;
    out << std::ifstream(file, std::ios::binary).rdbuf();
    return out.str();
  }
};

json::Object record(const std::string& id, bool failed = false) {
  json::Object out{{"custom_id", id}};
  out["error"] = failed ? json::Value(json::Object{{"message", "no"}}) : json::Value(nullptr);
  return out;
}

TEST_F(JournalFile, AppendsAndRemembers) {
  {
    Journal journal(file, false);
    EXPECT_TRUE(journal.answered().empty());
    journal.append(record("a"));
    journal.append(record("b", true));
  }
  Journal again(file, false);
  EXPECT_EQ(again.answered(), (std::set<std::string>{"a", "b"}));
  EXPECT_EQ(again.torn_bytes(), 0U);
}

TEST_F(JournalFile, AnOutputThatIsNoRegularFileIsNeitherReadNorReplaced) {
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  {
    Journal journal(file, true);
    EXPECT_EQ(journal.torn_bytes(), 0U);
  }
  EXPECT_TRUE(fs::is_fifo(file));
}

TEST_F(JournalFile, ALinkStaysOneWhenItsFileIsReplaced) {
  const fs::path link = file.string() + ".link";
  fs::remove(link);
  write(R"({"custom_id":"a","error":null})" "\n" "torn");
  fs::create_symlink(file, link);
  {
    Journal journal(link, false);
    EXPECT_EQ(journal.torn_bytes(), 4U);
    journal.append(record("b"));
  }
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(read(), R"({"custom_id":"a","error":null})" "\n" R"({"custom_id":"b","error":null})" "\n");
  fs::remove(link);
}

TEST_F(JournalFile, ATornLastLineIsCutAwayAtEveryByte) {
  const std::string whole = R"({"custom_id":"a","error":null})" "\n" R"({"custom_id":"b","error":null})" "\n";
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    write(whole.substr(0, length));
    {
      Journal journal(file, false);
      EXPECT_EQ(journal.answered().size(), length == whole.size() ? 2U : length > 30 ? 1U : 0U) << length;
      journal.append(record("c"));
    }
    const std::string now = read();
    EXPECT_TRUE(now.ends_with("{\"custom_id\":\"c\",\"error\":null}\n")) << now;
    EXPECT_EQ(static_cast<std::size_t>(std::count(now.begin(), now.end(), '\n')),
              1 + (length == whole.size() ? 2U : length > 30 ? 1U : 0U));
  }
}

TEST_F(JournalFile, ErrorsCanBeRetried) {
  write(R"({"custom_id":"a","error":null})" "\n" R"({"custom_id":"b","error":{"message":"gone"}})" "\n");
  Journal journal(file, true);
  EXPECT_EQ(journal.answered(), std::set<std::string>{"a"});
  journal.append(record("b"));
  EXPECT_EQ(read(), R"({"custom_id":"a","error":null})" "\n" R"({"custom_id":"b","error":null})" "\n");
}

TEST_F(JournalFile, ASecondWriterIsRefused) {
  Journal journal(file, false);
  EXPECT_THROW(Journal(file, false), Error);
}

TEST_F(JournalFile, AFileThatIsNoJournalIsRefusedAndLeftAlone) {
  write("not a journal\n");
  EXPECT_THROW(Journal(file, false), Error);
  EXPECT_EQ(read(), "not a journal\n");
  EXPECT_THROW(Journal(fs::temp_directory_path() / "no" / "such" / "folder.jsonl", false), Error);
}

// The disk is full in the middle of a record, and has room again when the next one comes.
TEST_F(JournalFile, NothingIsWrittenBehindARecordThatDidNotFit) {
  const auto before = ::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  {
    Journal journal(file, false);
    journal.append(record("a"));
    rlimit small = limit;
    small.rlim_cur = fs::file_size(file) + 10;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    EXPECT_THROW(journal.append(record("b")), Error);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    EXPECT_THROW(journal.append(record("c")), Error);
  }
  ::signal(SIGXFSZ, before);
  EXPECT_EQ(read(), R"({"custom_id":"a","error":null})" "\n");
  Journal again(file, false);
  EXPECT_EQ(again.answered(), (std::set<std::string>{"a"}));
  again.append(record("b"));
}

}  // namespace
}  // namespace zoetrope
