#include "runtime/media/frame_table.h"

#include <chrono>
#include <cstring>

#include "runtime/media/orientation.h"
#include "runtime/media/plan.h"
#include "tests/runtime/media/media_folder.h"
#include "tests/runtime/media/test_film.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

static_assert(sizeof(FrameEntry) == 16, "ten hours at 60 frames a second are 35 MB");

constexpr const char* kClosed =
    "-c:v libx264 -preset veryfast -threads 1 -x264-params keyint=12:min-keyint=12:scenecut=0:bframes=0";
constexpr const char* kOpen =
    "-c:v libx264 -preset veryfast -threads 1 -x264-params "
    "keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0:open-gop=1";

using File = std::vector<std::byte>;

MediaSource memory(File bytes) { return MediaSource::memory("film", std::move(bytes)); }

std::size_t position(const File& file, std::string_view text, std::size_t from = 0) {
  const std::string_view all(reinterpret_cast<const char*>(file.data()), file.size());
  const std::size_t at = all.find(text, from);
  EXPECT_NE(at, std::string_view::npos) << text;
  return at;
}

void write_big_endian(File& file, std::size_t at, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) {
    file.at(at + i) = static_cast<std::byte>(value >> (24 - 8 * i));
  }
}

bool has_note(const FrameTable& table, std::string_view text) {
  return std::any_of(table.notes.begin(), table.notes.end(),
                     [&](const std::string& note) { return note.find(text) != std::string::npos; });
}

// Every frame of the table, read in order, against the pictures that the ffmpeg program decodes from the same file.
void expect_all_frames(const std::filesystem::path& film, const FrameTable& table) {
  const auto expected = films().decoded(film);
  ASSERT_EQ(table.frames.size(), expected.size()) << film;
  FilmReader reader(MediaSource::file(film), table, {.height = kFilmHeight, .width = kFilmWidth});
  const auto got = frames_read(reader, every(1, static_cast<std::int64_t>(expected.size())));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(got[i], expected[i]) << film << " frame " << i;
  }
}

const File& closed_film() {
  static const File file = file_bytes(films().film("lies.mp4", 60, std::string(kClosed) + " -movflags +faststart"));
  return file;
}

TEST(FrameTable, DeclaredDurationsAreNotBelieved) {
  File file = closed_film();
  for (const auto& [box, offset] :
       {std::pair{"mvhd", 20}, std::pair{"mdhd", 20}, std::pair{"tkhd", 24}, std::pair{"elst", 12}}) {
    write_big_endian(file, position(file, box) + static_cast<std::size_t>(offset), 0xffffffff);
  }
  const FrameTable table = read_frame_table(memory(file));
  EXPECT_EQ(table.frames.size(), 60U);
  EXPECT_EQ(table.fps, 25);
  EXPECT_NEAR(table.frames.back().seconds, 59 / 25.0, 1e-9);
}

// The truth is used and the difference said; nothing is allocated for frames that a header only promises.
TEST(FrameTable, ALengthThatIsNotTrueIsReported) {
  const File honest = file_bytes(films().film("length.mkv", 60, kClosed));
  const FrameTable expected = read_frame_table(memory(honest));
  EXPECT_FALSE(has_note(expected, "declares"));
  const std::size_t duration = position(honest, "\x44\x89\x88") + 3;  // Matroska's Duration, a double in milliseconds
  for (const double milliseconds : {1e13, 3.6e6 * 10, 9e4}) {
    File file = honest;
    std::uint64_t bits = 0;
    std::memcpy(&bits, &milliseconds, sizeof bits);
    write_big_endian(file, duration, static_cast<std::uint32_t>(bits >> 32));
    write_big_endian(file, duration + 4, static_cast<std::uint32_t>(bits));
    const FrameTable table = read_frame_table(memory(file));
    EXPECT_EQ(table.frames.size(), 60U);
    EXPECT_EQ(table.frames.capacity(), expected.frames.capacity());
    EXPECT_EQ(table.fps, expected.fps);
    EXPECT_EQ(table.frames.back().seconds, expected.frames.back().seconds);
    EXPECT_TRUE(has_note(
        table, fmt::format("the header declares {:.3g} seconds, the last frame is shown at 2.36", milliseconds / 1000)))
        << (table.notes.empty() ? "no note" : table.notes[0]);
  }
}

TEST(FrameTable, ALengthThatIsNotTrueIsReportedOfMp4) {
  const FrameTable expected = read_frame_table(memory(closed_film()));
  EXPECT_FALSE(has_note(expected, "declares"));
  File file = closed_film();
  const std::size_t movie = position(file, "mvhd");  // then, 20 bytes on, its duration in milliseconds
  write_big_endian(file, movie + 20, 36000 * 1000);
  const FrameTable table = read_frame_table(memory(file));
  EXPECT_EQ(table.frames.size(), expected.frames.size());
  EXPECT_EQ(table.frames.capacity(), expected.frames.capacity());
  EXPECT_EQ(table.frames.back().seconds, expected.frames.back().seconds);
  EXPECT_TRUE(has_note(table, "the header declares 3.6e+04 seconds, the last frame is shown at 2.36"))
      << (table.notes.empty() ? "no note" : table.notes[0]);
}

TEST(FrameTable, AbsurdAndZeroFrameLengths) {
  File file = closed_film();
  std::memcpy(file.data() + position(file, "edts"), "free",
              4);  // its edit list would hide what lies beyond the true length
  const std::size_t stts = position(file, "stts");
  write_big_endian(file, stts + 16, 0x7fffffff);
  const FrameTable absurd = read_frame_table(memory(file));
  EXPECT_EQ(absurd.frames.size(), 60U);
  EXPECT_LT(absurd.frames.back().seconds, 60 * 24 * 3600.0);
  EXPECT_TRUE(std::is_sorted(absurd.frames.begin(), absurd.frames.end(),
                             [](const FrameEntry& a, const FrameEntry& b) { return a.seconds < b.seconds; }));
  EXPECT_TRUE(has_note(absurd, "jump") || !absurd.variable) << absurd.frames.back().seconds;
  write_big_endian(file, stts + 16, 0);
  const FrameTable zero = read_frame_table(memory(file));
  EXPECT_EQ(zero.frames.size(), 60U);
}

TEST(FrameTable, CutFilesKeepWhatIsThere) {
  const File& whole = closed_film();
  const FrameTable full = read_frame_table(memory(whole));
  const FrameTable half =
      read_frame_table(memory({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(whole.size() / 2)}));
  EXPECT_GT(half.frames.size(), 5U);
  EXPECT_LT(half.frames.size(), 55U);
  EXPECT_TRUE(has_note(half, "was probably cut") || has_note(half, "cannot be read further"));
  EXPECT_EQ(full.notes.size(), 0U);
  for (const std::int64_t index : {std::int64_t{0}, static_cast<std::int64_t>(half.frames.size()) - 1}) {
    FilmReader reader(memory({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(whole.size() / 2)}), half,
                      {.height = kFilmHeight, .width = kFilmWidth});
    std::vector<std::uint8_t> a(kFilmFrameBytes), b(kFilmFrameBytes);
    reader.read(index, a);
    FilmReader(memory(whole), full, {.height = kFilmHeight, .width = kFilmWidth}).read(index, b);
    EXPECT_EQ(a, b) << index;
  }
}

TEST(FrameTable, EveryCutIsAFilmOrOneLine) {
  for (const char* name : {"cut.mp4", "cut.mkv", "cut.ts", "cut.avi"}) {
    const File whole =
        file_bytes(films().film(name, 30, std::string(name).ends_with("avi") ? "-c:v mpeg4 -g 5" : kOpen));
    for (std::size_t n = 1; n < whole.size(); n += 1 + whole.size() / 25) {
      const MediaSource cut = memory({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)});
      try {
        const FrameTable table = read_frame_table(cut);
        std::vector<std::uint8_t> rgb(32 * 32 * 3);
        FilmReader(cut, table, {.height = 32, .width = 32}).read(0, rgb);
      } catch (const Error& error) {
        EXPECT_EQ(error.radius(), Radius::kRequest) << name << ": " << error.what();
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      }
    }
  }
}

TEST(FrameTable, WhatShowsNoPicturesIsRefused) {
  films().ffmpeg("-f lavfi -i sine=duration=1 -c:a aac " + films().path("sound.m4a").string());
  EXPECT_EQ(refusal([] { read_frame_table(MediaSource::memory("sound", file_bytes(films().path("sound.m4a")))); }),
            "film sound: found 1 stream: audio, expected a video stream; give a file that shows pictures");
  File no_index = closed_film();
  no_index.resize(position(no_index, "moov") - 4);
  EXPECT_NE(refusal([&] { read_frame_table(memory(no_index)); }).find("check that the file is complete"),
            std::string::npos);
  EXPECT_NE(refusal([] { read_frame_table(memory(File(5000))); }).find("cannot open"), std::string::npos);
}

TEST(FrameTable, PlaylistsAndOtherDoorsAreClosed) {
  for (const char* text :
       {"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile /etc/passwd\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9999 RTP/AVP 96\na=rtpmap:96 "
        "H264/90000\n",
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"><Period/></MPD>",
        "just some text\n"}) {
    const std::string_view view(text);
    const auto start = std::chrono::steady_clock::now();
    const std::string message = refusal([&] {
      read_frame_table(memory({reinterpret_cast<const std::byte*>(view.data()),
                               reinterpret_cast<const std::byte*>(view.data()) + view.size()}));
    });
    EXPECT_NE(message.find("cannot open"), std::string::npos) << message;
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  }
}

TEST(FrameTable, HugePicturesAreRefusedByTheirHeader) {
  films().ffmpeg("-f lavfi -i color=size=16400x32 -frames:v 1 -c:v mjpeg -pix_fmt yuvj420p " +
                 films().path("wide.avi").string());
  EXPECT_NE(refusal([] { read_frame_table(MediaSource::file(films().path("wide.avi"))); }).find("16400 x 32 pixels"),
            std::string::npos);
}

TEST(FrameTable, TurnedFilms) {
  const auto flat = films().film("flat.mp4", 10, kClosed);
  for (const auto& [degrees, orientation] : {std::pair{90, 8}, std::pair{180, 3}, std::pair{270, 6}}) {
    const auto path = films().path(fmt::format("turned{}.mp4", degrees));
    films().ffmpeg(fmt::format("-i {} -c copy -metadata:s:v:0 rotate={} {}", flat.string(), degrees, path.string()));
    const FrameTable table = read_frame_table(MediaSource::file(path));
    EXPECT_EQ(table.orientation, orientation) << degrees;
    const int height = degrees == 180 ? kFilmHeight : kFilmWidth;
    const int width = degrees == 180 ? kFilmWidth : kFilmHeight;
    std::vector<std::uint8_t> upright(kFilmFrameBytes), lying(kFilmFrameBytes);
    FilmReader(MediaSource::file(path), table, height, width, true).read(4, upright);
    FilmReader(MediaSource::file(path), table, kFilmHeight, kFilmWidth, false).read(4, lying);
    EXPECT_EQ(upright, turned(lying.data(), kFilmHeight, kFilmWidth, kFilmWidth * 3, table.orientation).rgb);
    films().ffmpeg(
        fmt::format("-i {} -frames:v 5 -vsync passthrough -vf scale=flags=bilinear,format=rgb24 -f rawvideo {}",
                    path.string(), films().path("t.rgb").string()));
    const File theirs = file_bytes(films().path("t.rgb"));
    ASSERT_EQ(theirs.size(), 5 * kFilmFrameBytes);
    double difference = 0;  // the program turns before it converts colours
    for (std::size_t i = 0; i < kFilmFrameBytes; ++i) {
      difference += std::abs(static_cast<int>(theirs[4 * kFilmFrameBytes + i]) - static_cast<int>(upright[i]));
    }
    EXPECT_LT(difference / kFilmFrameBytes, 4) << degrees;
  }
}

TEST(FrameTable, TornStartsCountWhatTheDecoderDelivers) {
  for (const auto& [name, coding] :
       {std::pair{"torn264.ts", kOpen}, std::pair{"torn2.ts", "-c:v mpeg2video -q:v 4 -g 12 -bf 2"},
        std::pair{"torn265.ts",
                  "-c:v libx265 -preset ultrafast -x265-params "
                  "log-level=none:pools=1:frame-threads=1:keyint=12:min-keyint=12:scenecut=0:open-gop=1:bframes=3:b-"
                  "adapt=0"}}) {
    const File whole = file_bytes(films().film(name, 60, coding));
    const std::size_t cut = whole.size() / 3 / 188 * 188;
    const auto path = films().path(std::string("cut-") + name);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(whole.data()) + cut, static_cast<std::streamsize>(whole.size() - cut));
    const FrameTable table = read_frame_table(MediaSource::file(path));
    EXPECT_LT(table.frames.size(), 60U) << name;
    expect_all_frames(path, table);
  }
}

TEST(FrameTable, JoinedRecordingsWhoseClockJumpsBack) {
  const File first = file_bytes(films().film("first.ts", 40, kClosed));
  const File second = file_bytes(films().film("second.ts", 30, kClosed));
  const auto path = films().path("joined.ts");
  std::ofstream out(path, std::ios::binary);
  for (const File* part : {&first, &second}) {
    out.write(reinterpret_cast<const char*>(part->data()), static_cast<std::streamsize>(part->size()));
  }
  out.close();
  const FrameTable table = read_frame_table(MediaSource::file(path));
  EXPECT_TRUE(table.counted);
  EXPECT_EQ(table.frames.size(), 70U);
  EXPECT_TRUE(has_note(table, "clock"));
  EXPECT_NEAR(table.frames.back().seconds, 69 / 25.0, 0.2);
  expect_all_frames(path, table);
}

TEST(FrameTable, EditListsHideFrames) {
  const auto whole = films().film("edit-source.mp4", 60, std::string(kOpen));
  const auto path = films().path("edited.mp4");
  films().ffmpeg("-ss 1.3 -i " + whole.string() + " -c copy " + path.string());
  const FrameTable table = read_frame_table(MediaSource::file(path));
  EXPECT_LT(table.frames.size(), 60U);
  expect_all_frames(path, table);
}

TEST(FrameTable, LongFilmsAreEnteredByTheirIndex) {
  for (const char* name : {"long.mp4", "long.mkv", "long.ts"}) {
    const auto path = films().film(
        name, 1500, "-c:v libx264 -preset ultrafast -threads 1 -x264-params keyint=25:scenecut=0:bframes=2");
    const MediaSource source = MediaSource::file(path);
    const FrameTable table = read_frame_table(source);
    ASSERT_EQ(table.frames.size(), 1500U) << name;
    EXPECT_EQ(table.access_points.size(), 60U);
    FilmReader far(source, table, {.height = kFilmHeight, .width = kFilmWidth, .expected = {1390, 1400}});
    const auto jumped = frames_read(far, {1390, 1400});
    EXPECT_EQ(far.counts().seeks, 1) << name;
    EXPECT_LT(far.counts().packets_decoded, 100) << name;
    FilmReader linear(source, table, {.height = kFilmHeight, .width = kFilmWidth, .expected = every(10, 1401)});
    const auto all = frames_read(linear, every(10, 1401));
    EXPECT_EQ(jumped[0], all[139]) << name;
    EXPECT_EQ(jumped[1], all[140]) << name;
  }
}

TEST(FrameTable, DamageIsNamedAndEndsAtTheNextProvenStart) {
  File file = closed_film();
  const FrameTable clean = read_frame_table(memory(file));
  ASSERT_EQ(clean.access_points.size(), 5U);
  const auto begin = static_cast<std::size_t>(clean.access_points[1].offset_bytes);
  for (std::size_t i = begin + 400; i < begin + 900; ++i) {
    file[i] = static_cast<std::byte>(i * 37);
  }
  const FrameTable table = read_frame_table(memory(file));
  ASSERT_EQ(table.frames.size(), 60U);
  FilmReader damaged(memory(file), table, {.height = kFilmHeight, .width = kFilmWidth});
  FilmReader whole(memory(closed_film()), clean, {.height = kFilmHeight, .width = kFilmWidth});
  int refused = 0;
  for (std::int64_t i = 0; i < 60; ++i) {
    std::vector<std::uint8_t> a(kFilmFrameBytes), b(kFilmFrameBytes);
    whole.read(i, b);
    try {
      damaged.read(i, a);
      EXPECT_EQ(a, b) << "frame " << i << " differs and nobody said so";
    } catch (const Error& error) {
      ++refused;
      EXPECT_NE(
          std::string(error.what()).find(fmt::format("frame {} at {:.3f} seconds", i, static_cast<double>(i) / 25)),
          std::string::npos)
          << error.what();
      EXPECT_GE(i, clean.access_points[1].frame);
      EXPECT_LT(i, clean.access_points[2].frame);
    }
  }
  EXPECT_GE(refused, 1);
}

TEST(FrameTable, SizesThatChangeOnTheWayAreRefused) {
  const File first = file_bytes(films().film("small.ts", 20, kClosed));
  const File second = file_bytes(films().film("large.ts", 20, kClosed, "scale=128:128"));
  File joined = first;
  joined.insert(joined.end(), second.begin(), second.end());
  const FrameTable table = read_frame_table(memory(joined));
  FilmReader reader(memory(joined), table, {.height = kFilmHeight, .width = kFilmWidth});
  std::vector<std::uint8_t> rgb(kFilmFrameBytes);
  reader.read(3, rgb);
  EXPECT_NE(refusal([&] {
              reader.read(static_cast<std::int64_t>(table.frames.size()) - 1, rgb);
            }).find("128 x 128 pixels where the film began with 96 x 64"),
            std::string::npos);
}

TEST(FrameTable, OneFrameIsATableButNoVideo) {
  const FrameTable table = read_frame_table(MediaSource::file(films().film("one.mp4", 1, kClosed)));
  EXPECT_EQ(table.frames.size(), 1U);
  EXPECT_NE(refusal([&] { plan_video("film", table, {}, {}); }).find("found 1 frame, expected at least 2 frames"),
            std::string::npos);
}

TEST(FrameTable, MoreThreadsGiveTheSamePixels) {
  const auto path = films().film("threads.mp4", 60, kOpen);
  const FrameTable table = read_frame_table(MediaSource::file(path));
  const auto indices = every(7, 60);
  FilmReader one(MediaSource::file(path), table,
                 {.height = kFilmHeight, .width = kFilmWidth, .threads = 1, .expected = indices});
  FilmReader four(MediaSource::file(path), table,
                  {.height = kFilmHeight, .width = kFilmWidth, .threads = 4, .expected = indices});
  EXPECT_EQ(frames_read(one, indices), frames_read(four, indices));
}

}  // namespace
}  // namespace zoetrope
