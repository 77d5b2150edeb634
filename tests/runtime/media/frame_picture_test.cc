#include "runtime/media/frame_picture.h"

extern "C" {
#include <libavutil/frame.h>
#include <libswscale/swscale.h>
}

#include <random>

#include "runtime/media/film_input.h"
#include "runtime/media/orientation.h"
#include "tests/runtime/media/media_folder.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

// A flat frame of one colour; BT.601 and BT.709, limited and full range give the numbers of their standards.
Picture flat(int y, int u, int v, AVColorSpace space, AVColorRange range) {
  const AvFrame frame = make_frame();
  frame->width = 64;
  frame->height = 32;
  frame->format = AV_PIX_FMT_YUV420P;
  frame->colorspace = space;
  frame->color_range = range;
  EXPECT_GE(av_frame_get_buffer(frame.get(), 0), 0);
  const int values[] = {y, u, v};
  for (int plane = 0; plane < 3; ++plane) {
    std::fill_n(frame->data[plane], frame->linesize[plane] * (plane == 0 ? 32 : 16),
                static_cast<std::uint8_t>(values[plane]));
  }
  Picture out = Picture::blank(32, 64);
  EXPECT_EQ(FramePicture(32, 64, kUpright).write(*frame, out.rgb), "");
  return out;
}

void expect_near(const Picture& picture, int r, int g, int b) {
  for (std::size_t i = 0; i < picture.rgb.size(); i += 3) {
    ASSERT_NEAR(picture.rgb[i], r, 2);
    ASSERT_NEAR(picture.rgb[i + 1], g, 2);
    ASSERT_NEAR(picture.rgb[i + 2], b, 2);
  }
}

TEST(FramePicture, ColourSpaceAndRangeOfTheFrameRule) {
  expect_near(flat(235, 128, 128, AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_UNSPECIFIED), 255, 255, 255);
  expect_near(flat(235, 128, 128, AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_JPEG), 235, 235, 235);
  expect_near(flat(81, 90, 240, AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG), 255, 0, 0);  // red of BT.601
  expect_near(flat(63, 102, 240, AVCOL_SPC_BT709, AVCOL_RANGE_MPEG), 255, 0, 0);     // red of BT.709
}

// Noise; what is converted in slices is what the converter makes of the whole picture.
TEST(FramePicture, SlicesAreRowsOfTheWhole) {
  std::mt19937 random(3);
  for (const auto& [format, height, width] :
       std::vector<std::tuple<AVPixelFormat, int, int>>{{AV_PIX_FMT_YUV420P, 2, 64},
                                                        {AV_PIX_FMT_YUV420P, 70, 98},
                                                        {AV_PIX_FMT_YUV420P, 71, 98},
                                                        {AV_PIX_FMT_YUV420P, 66, 97},
                                                        {AV_PIX_FMT_YUVJ420P, 64, 130},
                                                        {AV_PIX_FMT_YUV422P, 70, 98},
                                                        {AV_PIX_FMT_NV12, 70, 98},
                                                        {AV_PIX_FMT_YUV420P10LE, 70, 98}}) {
    const AvFrame frame = make_frame();
    frame->width = width;
    frame->height = height;
    frame->format = format;
    ASSERT_GE(av_frame_get_buffer(frame.get(), 0), 0);
    for (int plane = 0; plane < 3 && frame->data[plane] != nullptr; ++plane) {
      for (int i = 0; i < frame->linesize[plane] * (plane == 0 ? height : height / 2); ++i) {
        frame->data[plane][i] =
            static_cast<std::uint8_t>(format == AV_PIX_FMT_YUV420P10LE && i % 2 == 1 ? random() % 4 : random());
      }
    }
    std::vector<std::uint8_t> rows(static_cast<std::size_t>((width * 3 + 64) * height) + 256);
    std::uint8_t* targets[4] = {rows.data(), nullptr, nullptr, nullptr};
    const int strides[4] = {width * 3 + 64, 0, 0, 0};
    SwsContext* whole =
        sws_getContext(width, height, format, width, height, AV_PIX_FMT_RGB24, SWS_BILINEAR, nullptr, nullptr, nullptr);
    const int* matrix = sws_getCoefficients(frame->colorspace);
    sws_setColorspaceDetails(whole, matrix, 0, matrix, 1, 0, 1 << 16, 1 << 16);
    ASSERT_EQ(sws_scale(whole, frame->data, frame->linesize, 0, height, targets, strides), height);
    sws_freeContext(whole);
    Picture expected = Picture::blank(32, 64), out = Picture::blank(32, 64);
    Resizer(height, width, 32, 64).apply(rows.data(), width * 3 + 64, expected.rgb);
    FramePicture picture(32, 64, kUpright);
    for (int time = 0; time < 2; ++time) {
      EXPECT_EQ(picture.write(*frame, out.rgb), "");
      expect_same(out, expected,
                  std::to_string(height) + " x " + std::to_string(width) + " of format " + std::to_string(format));
    }
  }
}

TEST(FramePicture, SaysWhatItCannotConvert) {
  const AvFrame frame = make_frame();
  frame->width = 64;
  frame->height = 32;
  frame->format = AV_PIX_FMT_VAAPI;
  Picture out = Picture::blank(32, 64);
  EXPECT_EQ(FramePicture(32, 64, kUpright).write(*frame, out.rgb), "pixel format vaapi that cannot be converted");
}

}  // namespace
}  // namespace zoetrope
