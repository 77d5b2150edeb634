#include "runtime/media/processor.h"

#include "tests/runtime/media/media_folder.h"
#include "tests/runtime/media/test_film.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(Processor, LimitsOfTheGoldenCheckpoints) {
  const ImageProcessor image = ImageProcessor::load(golden_folder() / "checkpoints" / "tiny-moe");
  EXPECT_EQ(image.pixels_min, 4096);
  EXPECT_EQ(image.pixels_max, 65536);
  const VideoProcessor video = VideoProcessor::load(golden_folder() / "checkpoints" / "tiny-moe");
  EXPECT_EQ(video.pixels_min, 4096);
  EXPECT_EQ(video.pixels_max, 131072);
  EXPECT_EQ(video.fps, 2);
  EXPECT_EQ(video.frames_min, 4);
  EXPECT_EQ(video.frames_max, 768);
}

std::filesystem::path folder_with(const std::string& text) {
  const auto folder = films().path("processor");
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "preprocessor_config.json") << text;
  std::ofstream(folder / "video_preprocessor_config.json") << text;
  return folder;
}

TEST(Processor, NamedLimitsRule) {
  const auto folder = folder_with(
      R"({"size": {"shortest_edge": 1, "longest_edge": 9000}, "min_pixels": 2000, "fps": 1.5, "max_frames": 64})");
  EXPECT_EQ(ImageProcessor::load(folder).pixels_min, 2000);
  EXPECT_EQ(ImageProcessor::load(folder).pixels_max, 9000);
  EXPECT_EQ(VideoProcessor::load(folder).fps, 1.5);
  EXPECT_EQ(VideoProcessor::load(folder).frames_max, 64);
}

TEST(Processor, SettingsThatWouldChangePixelsSilentlyAreRefused) {
  for (const char* bad : {R"({"patch_size": 14})", R"({"merge_size": 4})", R"({"image_mean": [0.48, 0.45, 0.4]})",
                          R"({"rescale_factor": 1})", R"({"resample": 2})", R"({"do_resize": false})", R"({"fps": 0})",
                          R"({"num_frames": 8})", R"({"min_pixels": 10, "max_pixels": 5})",
                          R"({"size": {"longest_edge": 0}})", R"({"max_frames": 0})", "[]", "{"}) {
    const auto folder = folder_with(bad);
    EXPECT_NE(refusal([&] { VideoProcessor::load(folder); }, Radius::kStartup).find("video_preprocessor_config.json"),
              std::string::npos)
        << bad;
  }
  EXPECT_NE(refusal([] { ImageProcessor::load("/no/such/folder"); }, Radius::kStartup), "");
}

}  // namespace
}  // namespace zoetrope
