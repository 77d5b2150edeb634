#include "runtime/media/still.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include "runtime/media/plan.h"
#include "runtime/media/resize.h"
#include "tests/runtime/media/media_folder.h"
#include "tests/safetensors_file.h"

namespace zoetrope {
namespace {

using namespace zoetrope::test;

std::string sha256(const std::vector<std::uint8_t>& bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(bytes.data(), bytes.size(), digest.data());
  std::string text;
  for (const unsigned char v : digest) {
    text += fmt::format("{:02x}", v);
  }
  return text;
}

TEST(Still, EveryGoldenPictureIsDecodedAndResizedExactly) {
  const SafetensorsFile golden(preprocess("images.safetensors"));
  const json::Value rows = rows_of("images.json");
  ASSERT_EQ(rows.as_array().size(), 12U);
  for (const json::Value& row : rows.as_array()) {
    const std::string k = std::to_string(row.at("index").to_number<int>());
    const std::string label(row.at("file").as_string());
    const MediaSource source = MediaSource::file(named_media(label));
    const Picture decoded = decode_still(source);
    EXPECT_EQ(decoded.height, row.at("decoded").at(0).to_number<int>()) << label;
    EXPECT_EQ(decoded.width, row.at("decoded").at(1).to_number<int>()) << label;
    const auto& shape = golden.shape("decoded." + k);
    const Picture expected =
        from_planes(golden.data<std::uint8_t>("decoded." + k), static_cast<int>(shape[1]), static_cast<int>(shape[2]));
    expect_same(corner(decoded, expected.height, expected.width), expected, label);

    const ImagePlan plan = plan_image(source, ImageProcessor{}, {});
    EXPECT_EQ(plan.source, (PictureSide{decoded.height, decoded.width})) << label;
    EXPECT_EQ(plan.resized.height, row.at("resized").at(0).to_number<int>()) << label;
    EXPECT_EQ(plan.resized.width, row.at("resized").at(1).to_number<int>()) << label;
    EXPECT_EQ(plan.grid.tokens(), row.at("tokens").to_number<std::int64_t>()) << label;
    Picture resized;
    resize_bicubic(decoded, plan.resized.height, plan.resized.width, resized);
    EXPECT_EQ(sha256(to_planes(resized)), row.at("resized_sha256").as_string()) << label;
    const auto& part = golden.shape("resized." + k);
    expect_same(
        corner(resized, static_cast<int>(part[1]), static_cast<int>(part[2])),
        from_planes(golden.data<std::uint8_t>("resized." + k), static_cast<int>(part[1]), static_cast<int>(part[2])),
        label + " resized");
  }
}

TEST(Still, ReportSaysTheTurning) {
  const StillFacts facts = read_still_facts(MediaSource::file(named_media("goldens/media/turned.jpg")));
  EXPECT_EQ(facts.orientation, 6);
  ASSERT_EQ(facts.notes.size(), 1U);
  EXPECT_EQ(facts.notes[0], "turned upright as its EXIF orientation 6 says");
}

TEST(Still, UnknownFormatsShowTheirFirstBytes) {
  const auto source = MediaSource::memory("upload", {std::byte{0x49}, std::byte{0x49}, std::byte{0x2a}, std::byte{0}});
  const std::string message = refusal([&] { decode_still(source); });
  EXPECT_EQ(message,
            "picture upload: found a file that begins with the bytes 49 49 2a 00, expected JPEG, PNG, WebP, BMP or "
            "GIF; convert it, or pass films as a video");
}

TEST(Still, SizesAreCheckedBeforeMemoryIsTaken) {
  EXPECT_NE(refusal([] { check_picture_size("p", 16385, 10); }).find("found 10 x 16385 pixels"), std::string::npos);
  EXPECT_NE(refusal([] { check_picture_size("p", 16384, 16385); }).find("16385 x 16384"), std::string::npos);
  check_picture_size("p", 16384, 16384);
  EXPECT_NE(refusal([] { check_picture_size("p", 0, 5); }).find("5 x 0"), std::string::npos);
}

// Cutting a picture anywhere, or changing bytes, must end in a picture or in one line: never in a crash.
TEST(Still, CutAndDamagedPicturesAreRefusedOrDecoded) {
  for (const char* label : {"goldens/media/turned.jpg", "goldens/media/palette.png", "goldens/media/alpha.png"}) {
    const std::vector<std::byte> whole = file_bytes(named_media(label));
    for (std::size_t n = 1; n < whole.size(); n += 1 + whole.size() / 60) {
      const auto cut = MediaSource::memory("cut", {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)});
      const std::string message = n + 16 < whole.size() ? refusal([&] { decode_still(cut); }) : "picture";
      EXPECT_EQ(message.rfind("picture", 0), 0U) << label << " cut at " << n << ": " << message;
      std::vector<std::byte> damaged = whole;
      damaged[n] ^= std::byte{0x5a};
      try {
        EXPECT_GT(decode_still(MediaSource::memory("damaged", damaged)).rgb.size(), 0U);
      } catch (const Error& error) {
        EXPECT_EQ(error.radius(), Radius::kRequest);
      }
    }
  }
}

}  // namespace
}  // namespace zoetrope
