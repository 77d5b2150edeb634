#include "runtime/media/film_reader.h"

#include <random>

#include "runtime/media/plan.h"
#include "tests/runtime/media/media_folder.h"
#include "tests/runtime/media/test_film.h"
#include "tests/safetensors_file.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(FilmReader, GoldenClipsAreDecodedAndResizedExactly) {
  const SafetensorsFile golden(preprocess("videos.safetensors"));
  int clips = 0;
  const json::Value rows = rows_of("videos.json");
  for (const json::Value& row : rows.as_array()) {
    if (!row.as_object().contains("frame_indices")) {
      continue;
    }
    const std::string label(row.at("file").as_string());
    const MediaSource source = MediaSource::file(named_media(label));
    const FrameTable table = read_frame_table(source);
    EXPECT_EQ(static_cast<std::int64_t>(table.frames.size()), row.at("total_frames").to_number<std::int64_t>())
        << label;
    EXPECT_EQ(table.fps, row.at("fps").to_number<double>()) << label;
    EXPECT_FALSE(table.variable);
    VideoOptions options;
    if (row.as_object().contains("call_options")) {
      const json::Object& call = row.at("call_options").as_object();
      if (call.contains("fps") && !call.at("fps").is_null()) {
        options.fps = call.at("fps").to_number<double>();
      }
      if (call.contains("num_frames")) {
        options.num_frames = call.at("num_frames").to_number<int>();
      }
    }
    const VideoPlan plan = plan_video(label, table, {}, options);
    std::vector<std::int64_t> indices;
    for (const json::Value& index : row.at("frame_indices").as_array()) {
      indices.push_back(index.to_number<std::int64_t>());
    }
    EXPECT_EQ(plan.report.frames_used, static_cast<std::int64_t>(indices.size()));
    EXPECT_TRUE(std::equal(indices.begin(), indices.end(), plan.frames.begin())) << label;
    EXPECT_EQ(plan.resized.height, row.at("resized").at(0).to_number<int>());
    EXPECT_EQ(plan.resized.width, row.at("resized").at(1).to_number<int>());
    for (std::size_t i = 0; i < plan.timestamps.size(); ++i) {
      EXPECT_EQ(fmt::format("<{} seconds>", timestamp_text(plan.timestamps[i])),
                row.at("timestamp_texts").at(i).as_string());
    }
    if (!row.at("exact").as_bool()) {
      continue;
    }
    const std::string k = std::to_string(row.at("index").to_number<int>());
    for (const auto& [name, height, width] : {std::tuple{"frames." + k, table.height, table.width},
                                              std::tuple{"resized." + k, plan.resized.height, plan.resized.width}}) {
      const std::vector<std::uint8_t> all = golden.data<std::uint8_t>(name);
      FilmReader reader(source, table, {.height = height, .width = width, .expected = indices});
      const std::size_t frame_bytes = static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3;
      ASSERT_EQ(all.size(), frame_bytes * indices.size());
      for (std::size_t i = 0; i < indices.size(); ++i) {
        Picture got = Picture::blank(height, width);
        reader.read(indices[i], got.rgb);
        expect_same(got, from_planes(std::span(all).subspan(i * frame_bytes, frame_bytes), height, width),
                    name + fmt::format(" [{}]", i));
      }
      ++clips;
    }
  }
  EXPECT_EQ(clips, 4);
}

TEST(FilmReader, RealFilmGivesTheReferencesPixels) {
  const SafetensorsFile golden(preprocess("videos.safetensors"));
  const MediaSource source = MediaSource::file(named_media("media/real_video_1.mp4"));
  const FrameTable table = read_frame_table(source);
  ASSERT_EQ(table.width, 398);
  const std::vector<std::uint8_t> frames = golden.data<std::uint8_t>("real.frames");
  FilmReader reader(source, table, {.height = 224, .width = 398, .expected = {0, 16}});
  for (std::size_t i = 0; i < 2; ++i) {
    Picture got = Picture::blank(224, 398);
    reader.read(static_cast<std::int64_t>(16 * i), got.rgb);
    expect_same(got, from_planes(std::span(frames).subspan(i * got.rgb.size(), got.rgb.size()), 224, 398),
                fmt::format("frame {}", 16 * i));
  }
}

struct Kind {
  const char* file;
  const char* coding;
  const char* filter = "null";
  bool jumps = false;    // some later access point is proven
  bool counted = false;  // packets do not name frames
  bool variable = false;
  int frames = 90;
};

std::ostream& operator<<(std::ostream& out, const Kind& kind) { return out << kind.file; }

class EveryKind : public testing::TestWithParam<Kind> {};

// The heart of it: however the frames are chosen and in whatever order they are asked for, their pixels are those of an
// independent decode of everything from the start.
TEST_P(EveryKind, SeekingChangesNoPixel) {
  const Kind& kind = GetParam();
  const std::filesystem::path film = films().film(kind.file, kind.frames, kind.coding, kind.filter);
  const auto expected = films().decoded(film);
  const MediaSource source = MediaSource::file(film);
  const FrameTable table = read_frame_table(source);
  ASSERT_EQ(table.frames.size(), expected.size());
  ASSERT_GE(expected.size(), 10U);
  EXPECT_EQ(table.counted, kind.counted);
  EXPECT_EQ(table.variable, kind.variable) << table.fps;
  EXPECT_EQ(table.access_points.size() > 1, kind.jumps) << table.access_points.size();
  const auto count = static_cast<std::int64_t>(expected.size());
  const auto compare = [&](const std::vector<std::int64_t>& indices, bool announced, const std::string& what) {
    FilmReader reader(
        source, table,
        {.height = kFilmHeight, .width = kFilmWidth, .expected = announced ? indices : std::vector<std::int64_t>{}});
    const auto got = frames_read(reader, indices);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      EXPECT_EQ(got[i], expected[static_cast<std::size_t>(indices[i])]) << what << ", frame " << indices[i];
    }
    return reader.counts();
  };
  compare(every(1, count), false, "all");
  for (const std::int64_t step : {2, 7, 31}) {
    for (const std::int64_t first : {0, 5}) {
      const FilmReaderCounts counts =
          compare(every(step, count, first), true, fmt::format("every {} from {}", step, first));
      EXPECT_EQ(counts.restarts, 0);
      if (!kind.jumps || step == 31) {
        EXPECT_EQ(counts.jumps > 0, kind.jumps) << step;
      }
    }
  }
  std::vector<std::int64_t> shuffled = every(9, count);
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(3));
  compare(shuffled, false, "shuffled");
  const FilmReaderCounts late = compare({count - 2}, true, "one frame near the end");
  EXPECT_EQ(late.jumps > 0, kind.jumps);
}

INSTANTIATE_TEST_SUITE_P(
    Films, EveryKind,
    testing::Values(
        Kind{.file = "closed.mp4",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0:bframes=3:open-gop=0",
             .jumps = true},
        Kind{.file = "closed.mkv",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0:bframes=3:open-gop=0",
             .jumps = true},
        Kind{.file = "closed.ts",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0:bframes=3:open-gop=0",
             .jumps = true},
        Kind{.file = "open.mp4",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0:open-gop=1"},
        Kind{.file = "refresh.mp4",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -x264-params keyint=12:intra-refresh=1:bframes=0"},
        Kind{.file = "pyramid.mp4",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -x264-params "
                       "keyint=17:min-keyint=17:scenecut=0:bframes=7:b-pyramid=normal:b-adapt=0:ref=4",
             .jumps = true},
        Kind{.file = "interlaced.mp4",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0:tff=1:bframes=2",
             .jumps = true},
        Kind{.file = "vfr.mkv",
             .coding = "-vsync vfr -c:v libx264 -preset veryfast -threads 1 -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0:bframes=3",
             .filter = "select='not(mod(n,5))+between(n,40,60)'",
             .jumps = true,
             .variable = true,
             .frames = 70},
        Kind{.file = "vfr.mp4",
             .coding = "-vsync vfr -c:v libx264 -preset veryfast -threads 1 -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0:bframes=3",
             .filter = "select='not(mod(n,5))+between(n,40,60)'",
             .jumps = true,
             .variable = true,
             .frames = 70},
        Kind{.file = "bt709.mp4",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -bsf:v "
                       "h264_metadata=colour_primaries=1:transfer_characteristics=1:matrix_coefficients=1 -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0",
             .jumps = true},
        Kind{.file = "full444.mkv",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -pix_fmt yuvj444p -x264-params "
                       "keyint=12:min-keyint=12:scenecut=0",
             .jumps = true},
        Kind{.file = "bare.h264",
             .coding = "-c:v libx264 -preset veryfast -threads 1 -x264-params keyint=12:bframes=3",
             .counted = true},
        Kind{.file = "hevc-closed.mp4",
             .coding = "-c:v libx265 -preset ultrafast -x265-params "
                       "log-level=none:pools=1:frame-threads=1:keyint=12:min-keyint=12:scenecut=0:open-gop=0:bframes=3",
             .jumps = true},
        Kind{.file = "hevc-open.mkv",
             .coding = "-c:v libx265 -preset ultrafast -x265-params "
                       "log-level=none:pools=1:frame-threads=1:keyint=12:min-keyint=12:scenecut=0:open-gop=1:bframes=3:"
                       "b-adapt=0",
             .jumps = true},
        Kind{.file = "mpeg4.mp4", .coding = "-c:v mpeg4 -q:v 4 -g 12 -bf 2", .jumps = true},
        Kind{.file = "mpeg4.avi", .coding = "-c:v mpeg4 -q:v 4 -g 12 -bf 0", .jumps = true},
        Kind{.file = "mpeg4-b.avi", .coding = "-c:v mpeg4 -q:v 4 -g 12 -bf 2", .counted = true},
        Kind{.file = "mpeg2.ts", .coding = "-c:v mpeg2video -q:v 4 -g 12 -bf 2", .jumps = true},
        Kind{.file = "mpeg2.mpg", .coding = "-c:v mpeg2video -q:v 4 -g 12 -bf 2", .jumps = true},
        Kind{.file = "vp9.mkv",
             .coding =
                 "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 12 -b:v 300k -auto-alt-ref 1 -lag-in-frames 12",
             .jumps = true},
        Kind{.file = "vp8.webm",
             .coding = "-c:v libvpx -deadline realtime -cpu-used 8 -g 12 -b:v 300k -auto-alt-ref 1 -lag-in-frames 12"},
        Kind{.file = "av1.mp4", .coding = "-c:v libsvtav1 -preset 12 -g 12 -svtav1-params lp=1", .jumps = true},
        Kind{.file = "mjpeg.avi", .coding = "-c:v mjpeg -q:v 4 -pix_fmt yuvj420p", .jumps = true},
        Kind{.file = "ffv1.mkv", .coding = "-c:v ffv1"}, Kind{.file = "flash.flv", .coding = "-c:v flv -g 12 -q:v 4"},
        Kind{.file = "windows.wmv", .coding = "-c:v wmv2 -g 12 -q:v 4"},
        Kind{.file = "theora.ogv", .coding = "-c:v libtheora -g 12 -q:v 6"}),
    [](const testing::TestParamInfo<Kind>& tested) {
      std::string name = tested.param.file;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return c == '.' || c == '-'; }, '_');
      return name;
    });

}  // namespace
}  // namespace zoetrope
