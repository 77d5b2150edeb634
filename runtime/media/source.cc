#include "runtime/media/source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <optional>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

constexpr std::string_view kReferenceForms =
    "a file name, a file:/// address or a data: address with base64 (nothing is fetched from a network)";

[[noreturn]] void refuse_reference(std::string_view reference, std::string found) {
  refuse(Radius::kRequest, {.what = "media reference " + quoted(reference, 60),
                            .found = std::move(found),
                            .expected = std::string(kReferenceForms),
                            .remedy = "download the file first and name it by its path"});
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0 || high * 16 + low == 0) {
      refuse_reference(text, fmt::format("'%' without two hexadecimal digits (or %00) at character {}", i));
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::filesystem::path file_address(std::string_view reference) {
  std::string_view rest = reference.substr(std::string_view("file:").size());
  if (rest.starts_with("//")) {
    rest.remove_prefix(2);
    if (rest.starts_with("localhost/")) {
      rest.remove_prefix(std::string_view("localhost").size());
    }
    if (!rest.starts_with('/')) {
      refuse_reference(reference, "a host name after file://");
    }
  }
  return percent_decoded(rest);
}

MediaSource data_address(std::string_view reference) {
  const std::size_t comma = reference.find(',');
  const std::string_view head = reference.substr(0, comma);
  if (comma == std::string_view::npos || !head.ends_with(";base64")) {
    refuse_reference(reference, comma == std::string_view::npos ? "a data: address without a comma"
                                                                : "a data: address without ;base64");
  }
  std::string name = "the " + quoted(head, 40) + " address";
  auto bytes = base64_decoded(reference.substr(comma + 1), name);
  return MediaSource::memory(std::move(name), std::move(bytes));
}

// The scheme of an address ("http" of "http://x"), or nothing for a plain path.
std::optional<std::string> scheme_of(std::string_view reference) {
  std::size_t n = 0;
  while (n < reference.size() && (std::isalnum(static_cast<unsigned char>(reference[n])) != 0 || reference[n] == '+' ||
                                  reference[n] == '-' || reference[n] == '.')) {
    ++n;
  }
  if (n < 2 || n >= reference.size() || reference[n] != ':') {
    return std::nullopt;
  }
  std::string scheme(reference.substr(0, n));
  std::transform(scheme.begin(), scheme.end(), scheme.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool address = reference.substr(n + 1).starts_with("//") || scheme == "file" || scheme == "data";
  return address ? std::optional(scheme) : std::nullopt;
}

constexpr std::array<std::int8_t, 256> base64_values() {
  std::array<std::int8_t, 256> table{};
  table.fill(-1);
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    table[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::int8_t>(i);
  }
  return table;
}

}  // namespace

MediaSource MediaSource::file(std::filesystem::path path) {
  MediaSource source;
  source.name = quoted(path.string(), 200);
  source.path = std::move(path);
  return source;
}

MediaSource MediaSource::memory(std::string name, std::vector<std::byte> bytes) {
  MediaSource source;
  source.name = std::move(name);
  source.bytes = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  return source;
}

MediaSource media_from_reference(std::string_view reference, const std::filesystem::path& base) {
  if (reference.empty() || reference.find('\0') != std::string_view::npos) {
    refuse_reference(reference, reference.empty() ? "an empty text" : "a zero byte");
  }
  const auto scheme = scheme_of(reference);
  if (scheme == "data") {
    return data_address(reference);
  }
  if (scheme == "file") {
    return MediaSource::file(base / file_address(reference));
  }
  if (scheme) {
    refuse_reference(reference, "the scheme " + quoted(*scheme, 20));
  }
  return MediaSource::file(base / std::filesystem::path(reference));
}

std::vector<std::byte> base64_decoded(std::string_view text, std::string_view what) {
  static constexpr auto kValues = base64_values();
  const auto bad = [&](std::string found) {
    refuse(Radius::kRequest, {.what = std::string(what),
                              .found = std::move(found),
                              .expected = "base64 of A-Z a-z 0-9 + / with = at the end, a multiple of 4 characters",
                              .remedy = "encode the file again, without line breaks"});
  };
  if (text.size() % 4 != 0 || text.empty()) {
    bad(fmt::format("{} characters", text.size()));
  }
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::vector<std::byte> out;
  out.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::uint32_t bits = 0;
    const std::size_t missing = i + 4 == text.size() ? padding : 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const int value = j >= 4 - missing ? 0 : kValues[static_cast<unsigned char>(text[i + j])];
      if (value < 0) {
        bad(quoted(text.substr(i + j, 1)) + fmt::format(" at character {}", i + j));
      }
      bits = bits << 6 | static_cast<std::uint32_t>(value);
    }
    for (std::size_t j = 0; j < 3 - missing; ++j) {
      out.push_back(static_cast<std::byte>(bits >> (16 - 8 * j) & 0xff));
    }
    if (missing != 0 && (bits & ((std::uint32_t{1} << (8 * missing)) - 1)) != 0) {
      bad("bits after the last byte");
    }
  }
  return out;
}

SourceReader::SourceReader(const MediaSource& source) : name_(source.name), bytes_(source.bytes) {
  if (bytes_ != nullptr) {
    size_bytes_ = static_cast<std::int64_t>(bytes_->size());
  } else {
    // O_NONBLOCK: opening a named pipe must not wait for a writer; it is refused below.
    descriptor_ = ::open(source.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) {
      refuse(Radius::kRequest, {.what = "media file " + name_,
                                .found = std::strerror(errno),
                                .expected = "a readable file",
                                .remedy = "correct the path; relative paths start at the folder of the request file"});
    }
    struct stat facts {};
    if (::fstat(descriptor_, &facts) != 0 || !S_ISREG(facts.st_mode)) {
      ::close(descriptor_);
      refuse(Radius::kRequest, {.what = "media file " + name_,
                                .found = "a folder, pipe or device",
                                .expected = "a regular file",
                                .remedy = "name the file itself"});
    }
    size_bytes_ = facts.st_size;
  }
  if (size_bytes_ == 0) {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
    }
    refuse(Radius::kRequest, {.what = "media file " + name_,
                              .found = "0 bytes",
                              .expected = "a picture or film",
                              .remedy = "write the file again"});
  }
}

SourceReader::~SourceReader() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

std::int64_t SourceReader::read(std::int64_t offset, std::span<std::byte> out) const {
  if (offset < 0 || offset >= size_bytes_) {
    return 0;
  }
  if (bytes_ != nullptr) {
    const std::size_t n = std::min(out.size(), static_cast<std::size_t>(size_bytes_ - offset));
    std::memcpy(out.data(), bytes_->data() + offset, n);
    return static_cast<std::int64_t>(n);
  }
  for (;;) {
    const ssize_t n = ::pread(descriptor_, out.data(), out.size(), offset);
    if (n >= 0 || errno != EINTR) {
      return n;
    }
  }
}

std::vector<std::byte> SourceReader::all(std::int64_t bytes_max) const {
  if (size_bytes_ > bytes_max) {
    refuse(Radius::kRequest, {.what = "media file " + name_,
                              .found = fmt::format("{} bytes", size_bytes_),
                              .expected = fmt::format("at most {} bytes", bytes_max),
                              .remedy = "save the picture smaller"});
  }
  std::vector<std::byte> out(static_cast<std::size_t>(size_bytes_));
  std::int64_t done = 0;
  while (done < size_bytes_) {
    const std::int64_t n = read(done, std::span(out).subspan(static_cast<std::size_t>(done)));
    if (n <= 0) {
      refuse(Radius::kRequest, {.what = "media file " + name_,
                                .found = fmt::format("the end or a read error after {} bytes", done),
                                .expected = fmt::format("{} bytes", size_bytes_),
                                .remedy = "check the disk, or wait until the file is written completely"});
    }
    done += n;
  }
  return out;
}

}  // namespace zoetrope
