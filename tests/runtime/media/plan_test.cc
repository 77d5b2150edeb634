#include "runtime/media/plan.h"

#include <fmt/format.h>

#include <cmath>

#include "tests/runtime/media/media_folder.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

std::int64_t integer(const json::Value& row, const char* key) { return row.at(key).to_number<std::int64_t>(); }
bool has(const json::Value& row, const char* key) { return row.as_object().contains(key) && !row.at(key).is_null(); }

PictureSide side(const json::Value& pair) { return {pair.at(0).to_number<int>(), pair.at(1).to_number<int>()}; }

TEST(Plan, EveryImageSizeRow) {
  const json::Value rows = rows_of("image_sizes.json");
  ASSERT_EQ(rows.as_array().size(), 323U);
  for (const json::Value& row : rows.as_array()) {
    const auto resize = [&] {
      return resized_image({static_cast<int>(integer(row, "height")), static_cast<int>(integer(row, "width"))},
                           integer(row, "min_pixels"), integer(row, "max_pixels"), "p");
    };
    if (has(row, "error")) {
      EXPECT_NE(refusal(resize).find("200 to 1"), std::string::npos);
    } else {
      EXPECT_EQ(resize(), side(row.at("resized"))) << row;
    }
  }
}

TEST(Plan, EveryVideoSizeRow) {
  const json::Value rows = rows_of("video_sizes.json");
  ASSERT_FALSE(rows.as_array().empty());
  std::size_t refused = 0;  // any folder of golden files has some
  for (const json::Value& row : rows.as_array()) {
    const auto resize = [&] {
      return resized_video(integer(row, "frames"),
                           {static_cast<int>(integer(row, "height")), static_cast<int>(integer(row, "width"))},
                           integer(row, "min_pixels"), integer(row, "max_pixels"), "p");
    };
    if (has(row, "error")) {
      ++refused;
      const std::string theirs(row.at("error").as_string());
      const char* ours = theirs.find("temporal_factor") != std::string::npos      ? "expected at least 2"
                         : theirs.find("larger than factor") != std::string::npos ? "at least 32 x 32"
                                                                                  : "200 to 1";
      EXPECT_NE(refusal(resize).find(ours), std::string::npos) << theirs;
    } else {
      EXPECT_EQ(resize(), side(row.at("resized"))) << row;
    }
  }
  EXPECT_GT(refused, 0U);
}

FrameTable constant_film(std::int64_t frames, double fps, int height, int width) {
  FrameTable table;
  table.height = height;
  table.width = width;
  table.fps = fps;
  for (std::int64_t i = 0; i < frames; ++i) {
    table.frames.push_back({i, static_cast<double>(i) / (fps > 0 ? fps : 24)});
  }
  return table;
}

// The golden row as our options say it: an explicit null for fps is what num_frames alone means here.
VideoPlan plan_of(const json::Value& row) {
  VideoProcessor processor;
  const json::Object& init = row.at("processor_options").as_object();
  processor.fps = init.contains("fps") ? init.at("fps").to_number<double>() : processor.fps;
  processor.frames_min = init.contains("min_frames") ? init.at("min_frames").to_number<int>() : processor.frames_min;
  processor.frames_max = init.contains("max_frames") ? init.at("max_frames").to_number<int>() : processor.frames_max;
  VideoOptions options;
  const json::Value& call = row.at("call_options");
  if (has(call, "fps")) {
    options.fps = call.at("fps").to_number<double>();
  }
  if (has(call, "num_frames")) {
    options.num_frames = call.at("num_frames").to_number<int>();
  }
  if (has(row, "size")) {
    EXPECT_EQ(row.at("size").at("shortest_edge").to_number<std::int64_t>(), processor.pixels_min);
    options.total_pixels = row.at("size").at("longest_edge").to_number<std::int64_t>();
  }
  const double fps = has(row, "source_fps") ? row.at("source_fps").to_number<double>() : 0;
  const FrameTable table = constant_film(integer(row, "total_frames"), fps, static_cast<int>(integer(row, "height")),
                                         static_cast<int>(integer(row, "width")));
  return plan_video("film", table, processor, options);
}

TEST(Plan, EverySamplingRow) {
  const json::Value rows = rows_of("sampling.json");
  ASSERT_EQ(rows.as_array().size(), 240U);
  std::size_t planned = 0;
  for (const json::Value& row : rows.as_array()) {
    const json::Object& call = row.at("call_options").as_object();
    if (has(row, "error")) {
      // num_frames beside the processor's own fps is refused there only because the default fills in; here it stands
      // alone.
      const bool only_default = call.contains("num_frames") && !call.contains("fps");
      const bool in_configuration =
          row.at("processor_options").as_object().contains("num_frames");  // processor_test.cc
      if (!only_default && !in_configuration) {
        refusal([&] { plan_of(row); });
      }
      continue;
    }
    const VideoPlan plan = plan_of(row);
    std::vector<std::int64_t> indices;
    for (const json::Value& index : row.at("frame_indices").as_array()) {
      indices.push_back(index.to_number<std::int64_t>());
    }
    EXPECT_EQ(plan.report.frames_used, static_cast<std::int64_t>(indices.size())) << row;
    if (indices.size() % 2 != 0) {
      indices.push_back(indices.back());
    }
    EXPECT_EQ(plan.frames, indices) << row;
    EXPECT_EQ(plan.resized, side(row.at("resized"))) << row;
    EXPECT_EQ(plan.grid, (Grid{row.at("grid_thw").at(0).to_number<int>(), row.at("grid_thw").at(1).to_number<int>(),
                               row.at("grid_thw").at(2).to_number<int>()}))
        << row;
    EXPECT_EQ(plan.grid.tokens(), integer(row, "tokens")) << row;
    ASSERT_EQ(plan.timestamps.size(), row.at("timestamps").as_array().size()) << row;
    for (std::size_t i = 0; i < plan.timestamps.size(); ++i) {
      EXPECT_EQ(plan.timestamps[i], row.at("timestamps").at(i).to_number<double>()) << row;
      EXPECT_EQ(fmt::format("<{} seconds>", timestamp_text(plan.timestamps[i])),
                row.at("timestamp_texts").at(i).as_string())
          << row;
    }
    ++planned;
  }
  EXPECT_GE(planned, 225U);
}

TEST(Plan, MaxFramesIsHonouredAndSaid) {
  const FrameTable table = constant_film(15000, 30, 480, 640);
  const VideoPlan plan = plan_video("film", table, {}, {.max_frames = 64});
  EXPECT_EQ(plan.frames.size(), 64U);
  EXPECT_EQ(plan.frames.back(), 14999);
  ASSERT_EQ(plan.report.notes.size(), 1U);
  EXPECT_EQ(plan.report.notes[0], "sampled below 2 frames a second because of max_frames=64");
  const VideoPlan whole = plan_video("film", table, {}, {});
  EXPECT_EQ(whole.report.notes.at(0), "sampled below 2 frames a second because of max_frames=768");
}

TEST(Plan, CropsBySeconds) {
  const FrameTable table = constant_film(300, 30, 64, 64);
  const VideoPlan plan = plan_video("film", table, {}, {.fps = 1, .video_start = 2.01, .video_end = 5.99});
  EXPECT_EQ(plan.frames.front(), 61);  // ceil(60.3)
  EXPECT_EQ(plan.frames.back(), 179);  // floor(179.7)
  EXPECT_EQ(plan.frames.size(), 4U);   // 119 frames: 3, raised to the 4 of min_frames
  EXPECT_DOUBLE_EQ(plan.report.seconds_first, 61 / 30.0);
  EXPECT_EQ(plan_video("film", table, {}, {.video_end = 1e300}).frames.back(), 299);
  for (const VideoOptions& bad :
       {VideoOptions{.video_start = 10.5}, VideoOptions{.video_start = 3, .video_end = 3},
        VideoOptions{.video_start = -1}, VideoOptions{.video_start = 1e300}, VideoOptions{.video_end = std::nan("")}}) {
    EXPECT_NE(refusal([&] { plan_video("film", table, {}, bad); }).find("video_start"), std::string::npos);
  }
}

TEST(Plan, VariableRatesUseTrueTimes) {
  FrameTable table = constant_film(10, 10, 64, 64);
  table.variable = true;
  for (std::size_t i = 5; i < 10; ++i) {
    table.frames[i].seconds += 100;
  }
  const VideoPlan plan = plan_video("film", table, {}, {.num_frames = 10});
  EXPECT_DOUBLE_EQ(plan.timestamps[0], 0.05);
  EXPECT_DOUBLE_EQ(plan.timestamps[2], (0.4 + 100.5) / 2);
  EXPECT_DOUBLE_EQ(plan.timestamps[4], (100.8 + 100.9) / 2);
  EXPECT_EQ(plan.report.notes.at(0), "variable frame rate: each frame's true time is used");
  const VideoPlan reference = plan_video("film", table, {}, {.num_frames = 10, .reference_timestamps = true});
  EXPECT_DOUBLE_EQ(reference.timestamps[4], 0.85);
  const VideoPlan late = plan_video("film", table, {}, {.video_start = 50, .video_end = 100.75});
  EXPECT_EQ(late.frames, (std::vector<std::int64_t>{5, 6, 7, 7}));
}

TEST(Plan, LimitsPerFrameAndTogether) {
  const FrameTable table = constant_film(300, 30, 1080, 1920);
  const VideoPlan small = plan_video("film", table, {}, {.max_pixels = 100000});
  EXPECT_LE(small.resized.height * small.resized.width, 100000);
  EXPECT_GT(small.resized.height * small.resized.width, 80000);
  const VideoPlan large = plan_video("film", constant_film(60, 30, 64, 64), {}, {.min_pixels = 100000});
  EXPECT_GE(large.resized.height * large.resized.width, 100000);
  EXPECT_NE(refusal([&] { plan_video("film", table, {}, {.min_pixels = 10000000}); }).find("min_pixels"),
            std::string::npos);
  const VideoPlan tiny = plan_video("film", table, {}, {.total_pixels = 4096});
  EXPECT_EQ(tiny.resized, (PictureSide{32, 32}));
  EXPECT_NE(tiny.report.notes.back().find("no frame can be smaller"), std::string::npos);
}

TEST(Plan, ExtremeOptionsAreRefusedOrBounded) {
  const FrameTable table = constant_film(2, 30, 64, 64);
  EXPECT_EQ(plan_video("film", table, {}, {.fps = 1e300}).frames.size(), 2U);
  EXPECT_EQ(plan_video("film", table, {}, {.fps = 1e-300}).frames.size(), 2U);
  for (const VideoOptions& bad :
       {VideoOptions{.fps = 0.0}, VideoOptions{.fps = -1.0}, VideoOptions{.fps = HUGE_VAL},
        VideoOptions{.num_frames = 0}, VideoOptions{.num_frames = INT32_MAX}, VideoOptions{.max_frames = -5},
        VideoOptions{.max_frames = INT32_MAX}, VideoOptions{.fps = 1, .num_frames = 2}, VideoOptions{.total_pixels = 0},
        VideoOptions{.max_pixels = INT64_MAX}}) {
    EXPECT_NE(refusal([&] { plan_video("film", table, {}, bad); }).find("option"), std::string::npos);
  }
}

TEST(Plan, GivenFrameIndices) {
  const FrameTable table = constant_film(40, 30000.0 / 1001, 70, 50);
  const VideoPlan plan =
      plan_video("film", table, {}, {.frame_indices = std::vector<std::int64_t>{0, 3, 11, 19, 20, 37, 39}});
  EXPECT_EQ(plan.frames, (std::vector<std::int64_t>{0, 3, 11, 19, 20, 37, 39, 39}));
  for (const auto& bad :
       {std::vector<std::int64_t>{3, 2}, std::vector<std::int64_t>{0, 40}, std::vector<std::int64_t>{-1, 2}}) {
    EXPECT_NE(refusal([&] { plan_video("film", table, {}, {.frame_indices = bad}); }).find("frame_indices["),
              std::string::npos);
  }
}

TEST(Plan, TurnedFilmsSwapTheirSides) {
  FrameTable table = constant_film(60, 30, 480, 640);
  table.orientation = 6;
  const VideoPlan upright = plan_video("film", table, {}, {});
  EXPECT_EQ(upright.source, (PictureSide{640, 480}));
  EXPECT_EQ(upright.resized, (PictureSide{640, 480}));
  EXPECT_EQ(upright.report.notes.at(0), "the film asks for turning by 90 degrees: done");
  const VideoPlan lying = plan_video("film", table, {}, {.rotate = false});
  EXPECT_EQ(lying.resized, (PictureSide{480, 640}));
  EXPECT_EQ(lying.report.notes.at(0), "the film asks for turning by 90 degrees: not done (rotate=false)");
}

TEST(Plan, ListOfPicturesWithTheirTimes) {
  const MediaSource picture = MediaSource::file(named_media("goldens/media/wide.png"));
  const MediaSource other = MediaSource::file(named_media("goldens/media/odd.png"));
  const std::vector<MediaSource> three(3, picture);
  const VideoPlan plan = plan_pictures(three, std::vector<double>{0.5, 4, 9}, {}, {});
  EXPECT_EQ(plan.frames, (std::vector<std::int64_t>{0, 1, 2, 2}));
  EXPECT_EQ(plan.timestamps, (std::vector<double>{2.25, 9}));
  EXPECT_EQ(plan.report.kind, "frames");
  EXPECT_EQ(plan.resized, (PictureSide{96, 128}));
  EXPECT_NE(refusal([&] {
              plan_pictures(three, std::vector<double>{0, 2, 1}, {}, {});
            }).find("rising times"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              plan_pictures(std::vector<MediaSource>{picture, other}, std::vector<double>{0, 1}, {}, {});
            }).find("like the first"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              plan_pictures(std::vector<MediaSource>{picture}, std::vector<double>{0}, {}, {});
            }).find("found 1 frame,"),
            std::string::npos);
}

TEST(Plan, ImageLimitsWorkAlone) {
  const MediaSource picture = MediaSource::file(named_media("media/real_image_2.jpg"));
  const ImagePlan small = plan_image(picture, {}, {.max_pixels = 20000});
  EXPECT_LE(small.resized.height * small.resized.width, 20000);
  const ImagePlan large = plan_image(picture, {}, {.min_pixels = 1000000});
  EXPECT_GE(large.resized.height * large.resized.width, 1000000);
  EXPECT_NE(refusal([&] { plan_image(picture, {}, {.min_pixels = 2, .max_pixels = 1}); }).find("exchange"),
            std::string::npos);
}

}  // namespace
}  // namespace zoetrope
