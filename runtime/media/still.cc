#include "runtime/media/still.h"

#include <fmt/format.h>

#include <cstring>

#include "monitoring/error.h"
#include "runtime/media/orientation.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kFileBytesMax = std::int64_t{512} << 20;

struct Decoder {
  StillFacts (*facts)(still::Bytes, const std::string&);
  Picture (*decode)(still::Bytes, const std::string&);
};

bool begins(still::Bytes bytes, std::string_view magic, std::size_t offset = 0) {
  return bytes.size() >= offset + magic.size() && std::memcmp(bytes.data() + offset, magic.data(), magic.size()) == 0;
}

// The format is told by the first bytes, never by the name.
Decoder decoder_of(still::Bytes bytes, const std::string& name) {
  using std::string_view_literals::operator""sv;
  if (begins(bytes, "\xff\xd8\xff"sv)) {
    return {still::jpeg_facts, still::decode_jpeg};
  }
  if (begins(bytes, "\x89PNG\r\n\x1a\n"sv)) {
    return {still::png_facts, still::decode_png};
  }
  if (begins(bytes, "RIFF"sv) && begins(bytes, "WEBP"sv, 8)) {
    return {still::webp_facts, still::decode_webp};
  }
  if (begins(bytes, "GIF87a"sv) || begins(bytes, "GIF89a"sv)) {
    return {still::gif_facts, still::decode_gif};
  }
  if (begins(bytes, "BM"sv)) {
    return {still::bmp_facts, still::decode_bmp};
  }
  std::string first;
  for (std::size_t i = 0; i < bytes.size() && i < 8; ++i) {
    first += fmt::format("{}{:02x}", i == 0 ? "" : " ", static_cast<unsigned>(bytes[i]));
  }
  refuse(Radius::kRequest, {.what = "picture " + name,
                            .found = "a file that begins with the bytes " + first,
                            .expected = "JPEG, PNG, WebP, BMP or GIF",
                            .remedy = "convert it, or pass films as a video"});
}

}  // namespace

void check_picture_size(const std::string& what, std::int64_t height, std::int64_t width) {
  if (height < 1 || width < 1 || height > kPictureSideMax || width > kPictureSideMax ||
      height * width > kPicturePixelsMax) {
    refuse(Radius::kRequest,
           {.what = what,
            .found = fmt::format("{} x {} pixels (width x height)", width, height),
            .expected = fmt::format("1 to {} a side and at most {} pixels", kPictureSideMax, kPicturePixelsMax),
            .remedy = "scale it down"});
  }
}

namespace still {

void refuse_damaged(const std::string& name, const char* format, std::string found) {
  refuse(Radius::kRequest, {.what = "picture " + name,
                            .found = std::move(found),
                            .expected = fmt::format("a complete {} picture", format),
                            .remedy = "open and save it again with another program, or replace it"});
}

}  // namespace still

StillFacts read_still_facts(const MediaSource& source) {
  const std::vector<std::byte> bytes = SourceReader(source).all(kFileBytesMax);
  StillFacts facts = decoder_of(bytes, source.name).facts(bytes, source.name);
  check_picture_size("picture " + source.name, facts.height, facts.width);
  if (facts.orientation != kUpright) {
    facts.notes.push_back(fmt::format("turned upright as its EXIF orientation {} says", facts.orientation));
  }
  return facts;
}

Picture decode_still(const MediaSource& source) {
  const std::vector<std::byte> bytes = SourceReader(source).all(kFileBytesMax);
  const Decoder decoder = decoder_of(bytes, source.name);
  const StillFacts facts = decoder.facts(bytes, source.name);
  check_picture_size("picture " + source.name, facts.height, facts.width);
  Picture picture = decoder.decode(bytes, source.name);
  if (facts.orientation == kUpright) {
    return picture;
  }
  return turned(picture.rgb.data(), picture.height, picture.width, static_cast<std::ptrdiff_t>(picture.width) * 3,
                facts.orientation);
}

}  // namespace zoetrope
