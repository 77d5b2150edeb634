#include "runtime/media/source.h"

#include <sys/stat.h>

#include "tests/runtime/media/media_folder.h"
#include "tests/runtime/media/test_film.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(Source, PathsAndAddresses) {
  EXPECT_EQ(media_from_reference("film.mp4", "/films").path, "/films/film.mp4");
  EXPECT_EQ(media_from_reference("/a/b.mkv", "/films").path, "/a/b.mkv");
  EXPECT_EQ(media_from_reference("file:///a/b%20c.mkv", "/films").path, "/a/b c.mkv");
  EXPECT_EQ(media_from_reference("file://localhost/a.mkv", "/films").path, "/a.mkv");
  EXPECT_EQ(media_from_reference("10:30 holiday.mp4", "/films").path, "/films/10:30 holiday.mp4");
  const MediaSource inside = media_from_reference("data:image/png;base64,aGFsbG8=", "/films");
  EXPECT_EQ(text(*inside.bytes), "hallo");
  EXPECT_EQ(inside.name, "the 'data:image/png;base64' address");
}

TEST(Source, EverythingElseIsRefusedInOneLine) {
  for (const char* bad :
       {"", "http://host/film.mp4", "HTTPS://host/x", "ftp://h/x", "rtsp://h/x", "concat://a|b", "subfile://x",
        "data:text/plain,hello", "data:image/png;base64", "file://host/x", "file:relative", "file:///a%2",
        "file:///a%00b", "data:;base64,AA=A", "data:;base64,AAA", "data:;base64,AB==", "data:;base64,A\nA="}) {
    if (std::string_view(bad) == "file:relative") {
      EXPECT_EQ(media_from_reference(bad, "/films").path, "/films/relative");
      continue;
    }
    const std::string message = refusal([&] { media_from_reference(bad, "/films"); });
    EXPECT_NE(message.find("expected"), std::string::npos) << bad << ": " << message;
  }
  EXPECT_EQ(refusal([] { media_from_reference("http://host/film.mp4", "/"); }),
            "media reference 'http://host/film.mp4': found the scheme 'http', expected a file name, a file:/// address "
            "or a data: address with base64 "
            "(nothing is fetched from a network); download the file first and name it by its path");
}

TEST(Source, Base64RoundTrip) {
  EXPECT_EQ(text(base64_decoded("Zg==", "t")), "f");
  EXPECT_EQ(text(base64_decoded("Zm8=", "t")), "fo");
  EXPECT_EQ(text(base64_decoded("Zm9v", "t")), "foo");
  EXPECT_EQ(text(base64_decoded("+/+/", "t")), "\xfb\xff\xbf");
}

TEST(Source, ReadsFilesAndMemoryAlike) {
  const auto path = films().path("bytes");
  std::ofstream(path) << "0123456789";
  std::vector<std::byte> bytes;
  for (char c = '0'; c <= '9'; ++c) {
    bytes.push_back(static_cast<std::byte>(c));
  }
  for (const MediaSource& source : {MediaSource::file(path), MediaSource::memory("m", bytes)}) {
    const SourceReader reader(source);
    EXPECT_EQ(reader.size_bytes(), 10);
    std::vector<std::byte> part(4);
    EXPECT_EQ(reader.read(8, part), 2);
    EXPECT_EQ(part[1], std::byte{'9'});
    EXPECT_EQ(reader.read(10, part), 0);
    EXPECT_EQ(reader.read(-1, part), 0);
    EXPECT_EQ(text(reader.all(10)), "0123456789");
    EXPECT_NE(refusal([&] { reader.all(9); }).find("found 10 bytes"), std::string::npos);
  }
}

TEST(Source, WhatIsNoFileIsSaid) {
  EXPECT_NE(
      refusal([] { SourceReader(MediaSource::file("/no/such/film.mp4")); }).find("found No such file or directory"),
      std::string::npos);
  EXPECT_NE(refusal([] { SourceReader(MediaSource::file("/")); }).find("a folder, pipe or device"), std::string::npos);
  EXPECT_NE(refusal([] { SourceReader(MediaSource::file("/dev/zero")); }).find("a folder, pipe or device"),
            std::string::npos);
  const auto pipe = films().path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(refusal([&] { SourceReader{MediaSource::file(pipe)}; }).find("a folder, pipe or device"),
            std::string::npos);
  std::ofstream(films().path("empty"));
  EXPECT_NE(refusal([] { SourceReader{MediaSource::file(films().path("empty"))}; }).find("found 0 bytes"),
            std::string::npos);
}

}  // namespace
}  // namespace zoetrope
