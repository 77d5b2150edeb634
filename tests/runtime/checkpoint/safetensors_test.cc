#include "runtime/checkpoint/safetensors.h"

#include <cstring>

#include "tests/runtime/checkpoint/checkpoint_folder.h"
#include "tests/safetensors_file.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

// Every tensor of every golden shard, byte by byte, against a reader that shares no code with this one.
TEST(ShardFile, HoldsWhatAnotherReaderSees) {
  int shards = 0;
  for (const auto& entry : fs::recursive_directory_iterator(golden_folder() / "checkpoints")) {
    if (entry.path().extension() != ".safetensors") {
      continue;
    }
    ++shards;
    const auto file = ShardFile::open(entry.path());
    const SafetensorsFile other(entry.path());
    EXPECT_EQ(file->name(), entry.path().filename().string());
    EXPECT_EQ(file->bytes(), fs::file_size(entry.path()));
    EXPECT_TRUE(file->broken().empty());
    ASSERT_EQ(file->tensors().size(), other.names().size());
    for (const StoredTensor& tensor : file->tensors()) {
      ASSERT_EQ(other.dtype(tensor.name), stored_type_name(tensor.type));
      ASSERT_EQ(other.shape(tensor.name), tensor.shape);
      ASSERT_EQ(other.count(tensor.name), tensor.elements());
      EXPECT_EQ(tensor.file, file.get());
      const auto equal = [&](const auto& data) {
        return data.size() * sizeof(data[0]) == tensor.bytes &&
               std::memcmp(data.data(), tensor.data, tensor.bytes) == 0;
      };
      switch (tensor.type) {
        case StoredType::kBF16:
          EXPECT_TRUE(equal(other.data<std::uint16_t>(tensor.name))) << tensor.name;
          break;
        case StoredType::kF32:
          EXPECT_TRUE(equal(other.data<float>(tensor.name))) << tensor.name;
          break;
        case StoredType::kF8E4M3:
          EXPECT_TRUE(equal(other.data<std::uint8_t>(tensor.name))) << tensor.name;
          break;
        default:
          ADD_FAILURE() << tensor.name;
      }
    }
  }
  EXPECT_EQ(shards, 8);  // 1 dense, 2 MoE, 3 FP8, 2 YaRN
}

class DamagedShard : public ::testing::Test {
 protected:
  DamagedShard() {
    fs::copy_file(golden_checkpoint("tiny-dense") / "model.safetensors", file_, fs::copy_options::overwrite_existing);
    fs::permissions(file_, fs::perms::owner_write, fs::perm_options::add);
  }
  std::string refusal() {
    return message_of([&] { ShardFile::open(file_); });
  }

  TemporaryFolder folder_;
  fs::path file_ = folder_.path() / "model.safetensors";
};

TEST_F(DamagedShard, Whole) { EXPECT_EQ(ShardFile::open(file_)->tensors().size(), 121U); }

TEST_F(DamagedShard, Truncated) {
  fs::resize_file(file_, fs::file_size(file_) - 100);
  expect_parts(refusal(), {"tensor '", "model.safetensors: data_offsets reach beyond the end of the file (truncated?)",
                           "found [", "at most 6957596"});
}

TEST_F(DamagedShard, ShrinksWhileItIsOpen) {
  const auto shard = ShardFile::open(file_);
  const StoredTensor& last = shard->tensors().back();
  std::vector<std::byte> copy(last.bytes);
  shard->read(last, 0, copy.data(), copy.size());
  EXPECT_EQ(std::memcmp(copy.data(), last.data, last.bytes), 0);
  shard->read(last, last.bytes - 1, copy.data(), 1);
  EXPECT_EQ(copy[0], last.data[last.bytes - 1]);
  fs::resize_file(file_, fs::file_size(file_) - 1);
  expect_parts(message_of([&] { shard->read(last, 0, copy.data(), copy.size()); }),
               {"tensor '" + last.name + "' in", "the end of the file after 6971439 bytes",
                "6971440 bytes, as when it was opened"});
  EXPECT_DEATH(shard->read(last, 1, copy.data(), copy.size()), "the part lies in the tensor");
}

TEST_F(DamagedShard, TruncatedInTheHeader) {
  fs::resize_file(file_, 1000);
  expect_parts(refusal(),
               {"model.safetensors", "a header length of 13736", "at most 992 bytes of header in a file of this size"});
}

TEST_F(DamagedShard, LongerThanItsTensors) {
  fs::resize_file(file_, fs::file_size(file_) + 1);
  expect_parts(refusal(), {"model.safetensors: bytes after the last tensor", "6957697", "6957696"});
}

TEST_F(DamagedShard, LfsPointer) {
  write_text(file_,
             "version https://git-lfs.github.com/spec/v1\noid "
             "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 4976698672\n");
  expect_parts(refusal(), {"model.safetensors: found a Git LFS pointer instead of the file", "git lfs pull",
                           "a safetensors file"});
}

TEST_F(DamagedShard, Pickle) {
  write_text(file_, "PK\x03\x04" + std::string(100, 'x'));
  expect_parts(refusal(), {"a PyTorch pickle, which is never loaded"});
}

TEST_F(DamagedShard, Empty) {
  write_text(file_, "");
  expect_parts(refusal(), {"model.safetensors: found 0 bytes", "at least 10 bytes"});
}

TEST_F(DamagedShard, Absent) {
  fs::remove(file_);
  expect_parts(refusal(), {"model.safetensors: found no such file", "fetch the missing file"});
}

TEST_F(DamagedShard, Folder) {
  fs::remove(file_);
  fs::create_directory(file_);
  expect_parts(refusal(), {"model.safetensors: found something that is no regular file"});
}

TEST_F(DamagedShard, HeaderLengthsFromNowhere) {
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{100'000'001}}) {
    std::string text = read_text(golden_checkpoint("tiny-dense") / "model.safetensors");
    for (std::size_t i = 0; i < 8; ++i) {
      text[i] = static_cast<char>(length >> (8 * i));
    }
    write_text(file_, text);
    SCOPED_TRACE(length);
    expect_parts(refusal(), {"model.safetensors", "header"});
  }
}

TEST_F(DamagedShard, HeaderBeyondTheFormatsLimit) {
  std::string text(8, '\0');
  const std::uint64_t length = 100'000'001;
  for (std::size_t i = 0; i < 8; ++i) {
    text[i] = static_cast<char>(length >> (8 * i));
  }
  write_text(file_, text);
  fs::resize_file(file_, 200'000'000);
  expect_parts(refusal(), {"a header length of 100000001", "at most 100000000 bytes of header"});
}

TEST_F(DamagedShard, UnalignedHeader) {
  write_sparse(file_, R"({"t":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}})",
               8);  // 55 bytes: data at an odd address
  Problems problems;
  const auto file = ShardFile::open(file_, problems);
  ASSERT_EQ(problems.lines().size(), 1U);
  expect_parts(problems.lines()[0], {"tensor 't' in", "a header of 55 bytes", "BF16 is aligned to 2 bytes"});
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_EQ(file->broken(), (std::vector<std::string>{"t"}));
}

}  // namespace
}  // namespace zoetrope::test
