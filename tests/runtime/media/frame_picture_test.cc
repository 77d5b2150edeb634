#include "runtime/media/frame_picture.h"

extern "C" {
#include <libavutil/frame.h>
}

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
