#include "runtime/checkpoint/digest.h"

#include "tests/runtime/checkpoint/checkpoint_folder.h"

namespace zoetrope::test {
namespace {

// FIPS 180-2, appendix B.1, and the empty message.
TEST(Digest, IsSha256) {
  Digest empty;
  EXPECT_EQ(empty.finish(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Digest abc;
  abc.add("a", 1);
  abc.add("bc", 2);
  EXPECT_EQ(abc.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, TextsDoNotRunIntoEachOther) {
  Digest a, b;
  a.add_text("ab");
  a.add_text("c");
  b.add_text("a");
  b.add_text("bc");
  EXPECT_NE(a.finish(), b.finish());
}

TEST(Digest, OfAFile) {
  TemporaryFolder folder;
  write_text(folder.path() / "abc", "abc");
  EXPECT_EQ(file_digest(folder.path() / "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  write_text(folder.path() / "a", std::string(1000000, 'a'));  // FIPS 180-2, B.3: a million times 'a'
  EXPECT_EQ(file_digest(folder.path() / "a"), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  expect_parts(message_of([&] { file_digest(folder.path() / "absent"); }), {"absent", "cannot be read"});
}

}  // namespace
}  // namespace zoetrope::test
