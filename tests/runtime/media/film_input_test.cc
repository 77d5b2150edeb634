#include "runtime/media/film_input.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include "tests/runtime/media/media_folder.h"
#include "tests/runtime/media/test_film.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

TEST(FilmInput, GivesThePacketsOfTheFirstVideoStreamFromFileAndMemory) {
  const auto path = films().path("two.mkv");
  films().ffmpeg(
      "-f lavfi -i testsrc2=size=96x64:rate=25 -f lavfi -i testsrc2=size=64x64:rate=25 -f lavfi -i sine -map 2 -map 0 "
      "-map 1 -t 1 -c:v mpeg4 -c:a aac " +
      path.string());
  for (const MediaSource& source : {MediaSource::file(path), MediaSource::memory("m", file_bytes(path))}) {
    FilmInput input(source);
    EXPECT_EQ(input.coding().width, 96);
    EXPECT_EQ(input.other_video_streams(), 1);
    const AvPacket packet = make_packet();
    int packets = 0;
    for (; input.next(*packet); ++packets) {
      EXPECT_EQ(packet->stream_index, 1);
    }
    EXPECT_EQ(packets, 25);
    EXPECT_EQ(input.broken(), "");
    EXPECT_TRUE(input.seek(0));
    EXPECT_TRUE(input.next(*packet));
  }
}

TEST(FilmInput, DecoderSaysWhatItRefuses) {
  const auto path = films().film("decoder.mp4", 10, "-c:v libx264 -preset ultrafast -threads 1");
  FilmInput input(MediaSource::file(path));
  FilmDecoder decoder(input, 1);
  const AvPacket packet = make_packet();
  ASSERT_TRUE(input.next(*packet));
  ASSERT_GE(av_packet_make_writable(packet.get()), 0);
  std::fill(packet->data, packet->data + packet->size, std::uint8_t{0xff});
  EXPECT_FALSE(decoder.send(packet.get()));
  EXPECT_EQ(decoder.take_complaint(), "Invalid data found when processing input");
  EXPECT_EQ(decoder.take_complaint(), "");
  const AvFrame frame = make_frame();
  EXPECT_FALSE(decoder.receive(*frame));
  decoder.flush();
  int frames = 0;
  FilmInput again(MediaSource::file(path));
  while (again.next(*packet)) {
    EXPECT_TRUE(decoder.send(packet.get()));
    for (; decoder.receive(*frame); ++frames) {
    }
  }
  EXPECT_TRUE(decoder.send(nullptr));
  for (; decoder.receive(*frame); ++frames) {
  }
  EXPECT_EQ(frames, 10);
}

}  // namespace
}  // namespace zoetrope
