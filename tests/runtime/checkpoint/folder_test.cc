#include "runtime/checkpoint/folder.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

namespace fs = std::filesystem;

TEST(Folder, SaysWhatAWrongFolderIs) {
  TemporaryFolder folder;
  const auto say = [](const fs::path& path) { return message_of([&] { check_checkpoint_folder(path); }); };
  expect_parts(say(folder.path() / "absent"), {"absent: found no such folder", "a checkpoint folder"});
  expect_parts(say(folder.path()), {"an empty folder", "with config.json"});
  write_text(folder.path() / "film.mp4", "x");
  expect_parts(say(folder.path()), {"a folder with 'film.mp4'", "with config.json"});
  expect_parts(say(folder.path() / "film.mp4"), {"film.mp4: found a file"});
  write_text(folder.path() / "config.json", "{}");
  check_checkpoint_folder(folder.path());
}

TEST(Folder, NamesNeverLeadOut) {
  TemporaryFolder folder;
  EXPECT_EQ(file_in(folder.path(), "model.safetensors"), folder.path() / "model.safetensors");
  for (const std::string name :
       {"../model.safetensors", "/etc/passwd", "sub/model.safetensors", "", ".", "..", "a/../b"}) {
    expect_parts(message_of([&] { file_in(folder.path(), name); }),
                 {"the file name '" + name + "'", "a plain file name inside the folder"});
  }
  expect_parts(message_of([&] { file_in(folder.path(), std::string_view("a\0b", 3)); }), {"'a\\x00b'"});
}

TEST(Folder, LinksOnlyToItselfOrTheHubCache) {
  TemporaryFolder cache;
  const fs::path snapshot = cache.path() / "snapshots" / "0123abc";
  fs::create_directories(snapshot);
  fs::create_directories(cache.path() / "blobs");
  write_text(cache.path() / "blobs" / "f00d", "weights");
  write_text(cache.path() / "secret", "secret");
  fs::create_symlink("../../blobs/f00d", snapshot / "model.safetensors");
  fs::create_symlink("model.safetensors", snapshot / "again.safetensors");
  fs::create_symlink("../../secret", snapshot / "stolen.safetensors");
  fs::create_symlink("/etc/passwd", snapshot / "passwd.safetensors");
  EXPECT_EQ(read_text_file(file_in(snapshot, "model.safetensors")), "weights");
  EXPECT_EQ(read_text_file(file_in(snapshot, "again.safetensors")), "weights");
  expect_parts(message_of([&] { file_in(snapshot, "stolen.safetensors"); }),
               {"stolen.safetensors", "a symbolic link to", "secret"});
  expect_parts(message_of([&] { file_in(snapshot, "passwd.safetensors"); }),
               {"passwd.safetensors", "'/etc/passwd'", "hub cache"});
}

TEST(Folder, ReadsTextFiles) {
  TemporaryFolder folder;
  write_text(folder.path() / "a", "text");
  EXPECT_EQ(read_text_file(folder.path() / "a"), "text");
  expect_parts(message_of([&] { read_text_file(folder.path() / "b"); }), {"b: found no such file"});
  expect_parts(message_of([&] { read_text_file(folder.path()); }), {"no regular file"});
  fs::resize_file(folder.path() / "a", (std::uintmax_t{64} << 20) + 1);
  expect_parts(message_of([&] { read_text_file(folder.path() / "a"); }), {"67108865 bytes", "at most 67108864 bytes"});
}

TEST(Folder, KnowsOtherKindsOfFiles) {
  EXPECT_NE(looks_like("version https://git-lfs.github.com/spec/v1").find("LFS pointer"), std::string::npos);
  EXPECT_NE(looks_like("PK\x03\x04....").find("pickle"), std::string::npos);
  EXPECT_NE(looks_like("GGUF....").find("GGUF"), std::string::npos);
  EXPECT_NE(looks_like("<!DOCTYPE html>").find("web page"), std::string::npos);
  EXPECT_EQ(looks_like("{\"a\""), "JSON text");
  EXPECT_EQ(looks_like("\x10\x00\x00\x00"), "");
  EXPECT_EQ(looks_like(""), "");
}

}  // namespace
}  // namespace zoetrope::test
