#include "runtime/engine/host_room.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

class HostRoomTest : public testing::Test {
 protected:
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }

  const fs::path root_ = fs::path(testing::TempDir()) / ("zoetrope_host_room." + std::to_string(::getpid()));
};

constexpr const char* kMeminfo =
    "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\nHugePages_Total:       0\n";

TEST_F(HostRoomTest, IsWhatTheKernelCallsAvailable) {
  write("proc/meminfo", kMeminfo);
  EXPECT_EQ(host_room(root_).free_bytes, 8000 * 1024);
  EXPECT_EQ(host_room(root_).bound_by, "MemAvailable");
}

TEST_F(HostRoomTest, IsBoundByTheNarrowestGroupOfVersion2) {
  write("proc/meminfo", kMeminfo);
  write("proc/self/cgroup", "0::/job/step\n");
  write("sys/fs/cgroup/job/step/memory.max", "max\n");
  write("sys/fs/cgroup/job/step/memory.current", "700000\n");
  EXPECT_EQ(host_room(root_).bound_by, "MemAvailable");
  write("sys/fs/cgroup/job/memory.max", "4000000\n");
  write("sys/fs/cgroup/job/memory.current", "1500000\n");
  write("sys/fs/cgroup/job/memory.stat", "anon 400000\ninactive_file 500000\nactive_file 600000\n");
  EXPECT_EQ(host_room(root_).free_bytes, 4000000 - (1500000 - 500000));
  EXPECT_EQ(host_room(root_).bound_by, (root_ / "sys/fs/cgroup/job/memory.max").string());
  write("sys/fs/cgroup/job/memory.current", "9000000\n");
  EXPECT_EQ(host_room(root_).free_bytes, 0);
}

TEST_F(HostRoomTest, IsBoundByAGroupOfVersion1) {
  write("proc/meminfo", kMeminfo);
  write("proc/self/cgroup", "5:cpuset:/\n4:memory:/box\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "3000000\n");
  write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1000000\n");
  write("sys/fs/cgroup/memory/box/memory.stat", "cache 5\ntotal_inactive_file 250000\n");
  EXPECT_EQ(host_room(root_).free_bytes, 3000000 - 750000);
}

// A group that is seen as the root (a container) has its files there.
TEST_F(HostRoomTest, LooksAtTheRootWhereTheGroupIsNotSeen) {
  write("proc/meminfo", kMeminfo);
  write("proc/self/cgroup", "4:memory:/outside/box\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n");
  EXPECT_EQ(host_room(root_).free_bytes, 2000000);
}

TEST_F(HostRoomTest, OfThisHostIsPositive) {
  EXPECT_GT(host_room().free_bytes, 0);
  EXPECT_GT(host_room(root_ / "nothing").free_bytes, 0);
}

}  // namespace
}  // namespace zoetrope
