#include "runtime/checkpoint/mapped_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>

#include "runtime/checkpoint/safetensors.h"
#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

class MappedFiles : public testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    fs::copy_file(golden_checkpoint("tiny-dense") / "model.safetensors", path_, fs::copy_options::overwrite_existing);
  }
  void TearDown() override {
    fs::remove(path_);
    fs::remove(of_process(::getpid()));  // of the death tests, which set up their own and end without this
  }
  static fs::path of_process(pid_t parent) {
    return fs::temp_directory_path() / ("zoetrope-mapped-files-" + std::to_string(parent) + ".safetensors");
  }
  fs::path path_ = of_process(::getppid());
};

int last_byte_of(const ShardFile& file) {
  const StoredTensor& tensor = file.tensors().back();
  return static_cast<int>(*static_cast<const volatile std::byte*>(tensor.data + tensor.bytes - 1));
}

TEST_F(MappedFiles, AShardThatShrinksIsNamedAndEndsTheProgramInOrder) {
  EXPECT_EXIT(
      {
        const auto file = ShardFile::open(path_);
        fs::resize_file(path_, 100);
        ::_exit(last_byte_of(*file) + 2);
      },
      testing::ExitedWithCode(1), "zoetrope-mapped-files.*shrank while it was read, expected [0-9]+ bytes");
}

TEST_F(MappedFiles, OtherMemoryGoesToTheHandlerFromBefore) {
  EXPECT_EXIT(
      {
        std::signal(SIGBUS, [](int) { ::_exit(7); });
        const auto file = ShardFile::open(path_);
        const int other = ::open(path_.c_str(), O_RDONLY);
        void* const memory = ::mmap(nullptr, 1 << 20, PROT_READ, MAP_SHARED, other, 0);
        fs::resize_file(path_, 100);
        ::_exit(static_cast<int>(static_cast<const volatile char*>(memory)[(1 << 20) - 1]) + 2);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(MappedFiles, AFileThatIsClosedIsForgotten) {
  for (int i = 0; i < 1100; ++i) {  // more than the table holds
    const auto file = ShardFile::open(path_);
    ASSERT_GE(last_byte_of(*file), 0);
  }
  EXPECT_EXIT(
      {
        const auto file = ShardFile::open(path_);
        fs::resize_file(path_, 100);
        ::_exit(last_byte_of(*file) + 2);
      },
      testing::ExitedWithCode(1), "shrank while it was read");
}

}  // namespace
}  // namespace zoetrope::test
