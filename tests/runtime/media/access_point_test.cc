#include "runtime/media/access_point.h"

extern "C" {
#include <libavcodec/codec_id.h>
}

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace zoetrope {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t kSps = 0x67, kPps = 0x68, kIdr = 0x65, kSlice = 0x41, kSei = 0x06;

Bytes nals(const std::vector<Bytes>& units) {
  Bytes out;
  for (const Bytes& unit : units) {
    out.insert(out.end(), {0, 0, 0, 1});
    out.insert(out.end(), unit.begin(), unit.end());
  }
  return out;
}

TEST(AccessPoint, H264IsProvenByIdrPicturesOnly) {
  PacketReader reader(AV_CODEC_ID_H264, {});
  EXPECT_TRUE(reader.read(nals({{kSps, 1}, {kPps, 2}, {kSei, 6}, {kIdr, 9}}), true).clean);
  EXPECT_FALSE(reader.read(nals({{kSlice, 9}}), false).clean);
  EXPECT_FALSE(reader.read(nals({{kSps, 1}, {kPps, 2}, {kSei, 6, 1}, {kSlice, 9}}), true).clean)
      << "a recovery point proves nothing";
  EXPECT_FALSE(reader.read(nals({{kIdr, 9}}), false).clean) << "the container must agree";
  EXPECT_TRUE(reader.read(nals({{kIdr, 9}}), true).clean) << "the parameter sets are those of the start";
  EXPECT_FALSE(reader.read(nals({{kPps, 3}, {kIdr, 9}}), true).clean) << "a new parameter set";
  EXPECT_FALSE(reader.read(nals({{kSps, 1}, {kPps, 2}, {kIdr, 9}}), true).clean) << "and from then on";
}

TEST(AccessPoint, H264InMp4HasLengths) {
  const Bytes avcc = {1, 100, 0, 30, 0xff, 0xe1, 0, 2, kSps, 1, 1, 0, 2, kPps, 2};
  PacketReader reader(AV_CODEC_ID_H264, avcc);
  EXPECT_TRUE(reader.read(Bytes{0, 0, 0, 2, kIdr, 9}, true).clean);
  EXPECT_TRUE(reader.read(Bytes{0, 0, 0, 2, kPps, 2, 0, 0, 0, 2, kIdr, 9}, true).clean);
  EXPECT_FALSE(reader.read(Bytes{0, 0, 0, 2, kSlice, 9}, true).clean);
  EXPECT_FALSE(reader.read(Bytes{0xff, 0xff, 0xff, 0xff, kIdr, 9}, true).clean) << "a lying length";
  EXPECT_FALSE(reader.read(Bytes{0, 0, 0, 2, kPps, 7, 0, 0, 0, 2, kIdr, 9}, true).clean);
}

TEST(AccessPoint, HevcByPictureType) {
  const auto unit = [](int type) { return Bytes{static_cast<std::uint8_t>(type << 1), 1, 5}; };
  PacketReader reader(AV_CODEC_ID_HEVC, {});
  EXPECT_TRUE(reader.read(nals({unit(32), unit(33), unit(34), unit(19)}), true).clean);
  EXPECT_TRUE(reader.read(nals({unit(21)}), true).clean);
  EXPECT_FALSE(reader.read(nals({unit(16)}), true).clean);
  EXPECT_FALSE(reader.read(nals({unit(1)}), true).clean);
}

TEST(AccessPoint, Mpeg2NeedsTheSequenceHeaderAndCountsFields) {
  const Bytes sequence = {0, 0, 1, 0xb3, 1, 2, 3};
  const auto picture = [](int type, int structure) {
    return Bytes{0, 0, 1,    0,    0,    static_cast<std::uint8_t>(type << 3),       0, 0,
                 0, 1, 0xb5, 0x8f, 0xff, static_cast<std::uint8_t>(0xf0 | structure)};
  };
  const auto join = [](std::vector<Bytes> parts) {
    Bytes out;
    for (const Bytes& part : parts) {
      out.insert(out.end(), part.begin(), part.end());
    }
    return out;
  };
  PacketReader reader(AV_CODEC_ID_MPEG2VIDEO, {});
  EXPECT_TRUE(reader.read(join({sequence, picture(1, 3)}), true).clean);
  EXPECT_FALSE(reader.read(picture(1, 3), true).clean);
  EXPECT_FALSE(reader.read(join({sequence, picture(2, 3)}), true).clean);
  const PacketFacts pair = reader.read(join({sequence, picture(1, 1), picture(2, 2)}), true);
  EXPECT_TRUE(pair.clean);
  EXPECT_FALSE(pair.odd);
  EXPECT_TRUE(reader.read(join({sequence, picture(1, 1)}), true).odd);
  EXPECT_TRUE(reader.read(join({picture(2, 3), picture(3, 3)}), true).odd);
}

TEST(AccessPoint, Mpeg4PackedStreamsAreOdd) {
  PacketReader reader(AV_CODEC_ID_MPEG4, {});
  const Bytes intra = {0, 0, 1, 0xb6, 0x10, 1, 2, 3, 4, 5};
  EXPECT_TRUE(reader.read(intra, true).clean);
  Bytes two = intra;
  two.insert(two.end(), intra.begin(), intra.end());
  EXPECT_TRUE(reader.read(two, true).odd);
  EXPECT_TRUE(reader.read(Bytes{0, 0, 1, 0xb6, 0x50, 0}, false).odd) << "a stand-in";
}

TEST(AccessPoint, VpxAndAv1Headers) {
  PacketReader vp9(AV_CODEC_ID_VP9, {});
  EXPECT_TRUE(vp9.read(Bytes{0x82, 1, 2}, true).clean);   // 10 00 0 0 1 0: key, shown
  EXPECT_FALSE(vp9.read(Bytes{0x80, 1, 2}, true).shown);  // key, hidden
  EXPECT_FALSE(vp9.read(Bytes{0x86, 1, 2}, true).clean);  // inter
  EXPECT_TRUE(vp9.read(Bytes{0x88, 1, 2}, false).shown);  // shows an older frame
  PacketReader vp8(AV_CODEC_ID_VP8, {});
  EXPECT_FALSE(vp8.read(Bytes{0x01, 1, 2}, false).shown);
  EXPECT_TRUE(vp8.read(Bytes{0x10, 1, 2}, true).shown);
  EXPECT_FALSE(vp8.read(Bytes{0x10, 1, 2}, true).clean);
  PacketReader av1(AV_CODEC_ID_AV1, {});
  EXPECT_TRUE(av1.read(Bytes{0x12, 0, 0x0a, 1, 0, 0x32, 1, 0x10}, true).clean);
  EXPECT_FALSE(av1.read(Bytes{0x12, 0, 0x32, 1, 0x10}, true).clean) << "no sequence header";
  EXPECT_FALSE(av1.read(Bytes{0x12, 0, 0x0a, 1, 0, 0x32, 1, 0x30}, true).clean) << "an inter frame";
}

TEST(AccessPoint, IntraOnlyCodecsAreFree) {
  EXPECT_TRUE(PacketReader(AV_CODEC_ID_MJPEG, {}).read(Bytes{1}, true).clean);
  EXPECT_FALSE(PacketReader(AV_CODEC_ID_FLV1, {}).read(Bytes{1}, true).clean);
}

TEST(AccessPoint, AnyBytesAreSurvived) {
  std::mt19937 random(11);
  for (const int codec : {AV_CODEC_ID_H264, AV_CODEC_ID_HEVC, AV_CODEC_ID_MPEG2VIDEO, AV_CODEC_ID_MPEG4,
                          AV_CODEC_ID_VP8, AV_CODEC_ID_VP9, AV_CODEC_ID_AV1}) {
    for (int round = 0; round < 300; ++round) {
      const auto noise = [&] {
        Bytes bytes(random() % 60);
        for (auto& v : bytes) {
          v = static_cast<std::uint8_t>(random() % 3 == 0 ? random() : random() % 3);
        }
        return bytes;
      };
      PacketReader reader(codec, noise());
      for (int packet = 0; packet < 4; ++packet) {
        reader.read(noise(), true);
      }
    }
  }
}

}  // namespace
}  // namespace zoetrope
