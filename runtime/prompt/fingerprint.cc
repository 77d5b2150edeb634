// What two prompts must have in common to see the same: digests of media and of the units they are made of.
#include <fmt/format.h>

#include <charconv>
#include <string>
#include <vector>

#include "monitoring/error.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/prompt/prompt.h"
#include "runtime/prompt/source_cache.h"

namespace zoetrope {
namespace {

// SHA-256 of the bytes of a picture or film, read once for all questions about it.
std::string content_digest(const MediaSource& source) {
  static SourceCache<std::string> digests(1024);
  return digests.find_or_make(source, [](const MediaSource& medium) {
    constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
    Digest digest;
    const SourceReader reader(medium);
    std::vector<std::byte> piece(kPieceBytes);
    for (std::int64_t at = 0;;) {
      const std::int64_t read = reader.read(at, piece);
      if (read < 0) {
        refuse(Radius::kRequest, {medium.name, fmt::format("a device that fails at byte {}", at), "a readable file",
                                  "copy the file to another disk"});
      }
      if (read == 0) {
        return digest.finish();
      }
      digest.add(piece.data(), static_cast<std::size_t>(read));
      at += read;
    }
  });
}

std::array<std::uint64_t, 4> numbers_of(const std::string& hexadecimal) {
  std::array<std::uint64_t, 4> numbers{};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const char* first = hexadecimal.data() + 16 * i;
    std::from_chars(first, first + 16, numbers[i], 16);
  }
  return numbers;
}

}  // namespace

void fingerprint_units(Prompt& prompt) {
  for (VisualUnit& unit : prompt.units) {
    const Medium& medium = prompt.media[static_cast<std::size_t>(unit.medium)];
    Digest digest;
    digest.add_number(static_cast<std::uint64_t>(medium.kind));
    for (const int number :
         {medium.resized_height, medium.resized_width, medium.grid.h, medium.grid.w, medium.rotate ? 1 : 0}) {
      digest.add_number(static_cast<std::uint64_t>(number));
    }
    const auto frame_of = [&](int half) {
      return medium.frames[2 * static_cast<std::size_t>(unit.pair) + static_cast<std::size_t>(half)];
    };
    switch (medium.kind) {
      case Medium::Kind::kPicture:
        digest.add_text(content_digest(medium.sources[0]));
        break;
      case Medium::Kind::kFilm:
        digest.add_text(content_digest(medium.sources[0]));
        digest.add_number(static_cast<std::uint64_t>(frame_of(0)));
        digest.add_number(static_cast<std::uint64_t>(frame_of(1)));
        break;
      case Medium::Kind::kPictureList:
        for (int half = 0; half < 2; ++half) {
          digest.add_text(content_digest(medium.sources[static_cast<std::size_t>(frame_of(half))]));
        }
        break;
    }
    unit.fingerprint = numbers_of(digest.finish());
  }
}

}  // namespace zoetrope
