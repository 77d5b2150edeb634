// Where the bytes of a picture or film come from: a file or a piece of memory. Nothing here knows formats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace zoetrope {

struct MediaSource {
  std::string name;            // what messages call it
  std::filesystem::path path;  // empty when `bytes` is set
  std::shared_ptr<const std::vector<std::byte>> bytes;

  static MediaSource file(std::filesystem::path path);
  static MediaSource memory(std::string name, std::vector<std::byte> bytes);
};

// "film.mp4" (relative to `base`), "/films/a.mkv", "file:///films/a.mkv", "data:video/mp4;base64,AAAA". Every other
// scheme is refused: this program opens no network connection. Files are not opened here.
MediaSource media_from_reference(std::string_view reference, const std::filesystem::path& base);

// Strict RFC 4648 base64 (padding required, no white space). Throws Error naming `what` and the first bad position.
std::vector<std::byte> base64_decoded(std::string_view text, std::string_view what);

// Random reading from a source. One reader, one thread; any number of readers of one source.
class SourceReader {
 public:
  explicit SourceReader(const MediaSource& source);  // throws Error: missing, unreadable, not a regular file, empty
  ~SourceReader();
  SourceReader(const SourceReader&) = delete;
  SourceReader& operator=(const SourceReader&) = delete;

  std::int64_t size_bytes() const { return size_bytes_; }
  // Up to out.size() bytes from `offset`; 0 at the end, -1 when the device fails.
  std::int64_t read(std::int64_t offset, std::span<std::byte> out) const;
  std::vector<std::byte> all(std::int64_t bytes_max) const;  // throws Error when there are more

 private:
  std::string name_;
  std::shared_ptr<const std::vector<std::byte>> bytes_;
  int descriptor_ = -1;
  std::int64_t size_bytes_ = 0;
};

}  // namespace zoetrope
