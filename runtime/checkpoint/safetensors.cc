#include "runtime/checkpoint/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/checkpoint/folder.h"

namespace zoetrope {
namespace {

constexpr std::uint64_t kLengthBytes = 8;  // the header's length, little-endian, in front of it

// The descriptor is needed only until the file is mapped.
class OpenFile {
 public:
  explicit OpenFile(const std::filesystem::path& path)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~OpenFile() {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
    }
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

std::string seeming(std::string_view first_bytes) {
  const std::string other = looks_like(first_bytes);
  return other.empty() ? "" : other + ", ";
}

// Maps all of the file; nullptr (with a problem) when that cannot be.
const std::byte* mapped(const std::filesystem::path& path, std::uint64_t& bytes, Problems& problems) {
  const OpenFile file(path);
  struct stat status {};
  if (file.descriptor() < 0 || ::fstat(file.descriptor(), &status) != 0) {
    const bool missing = errno == ENOENT;
    problems.add({path.string(), missing ? "no such file" : std::strerror(errno), "a safetensors file",
                  missing ? "fetch the missing file" : "check its permissions"});
    return nullptr;
  }
  bytes = static_cast<std::uint64_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || bytes < kLengthBytes + 2) {
    problems.add({path.string(),
                  S_ISREG(status.st_mode) ? fmt::format("{} bytes", bytes) : "something that is no regular file",
                  "a safetensors file of at least 10 bytes", "fetch the file again"});
    return nullptr;
  }
  void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (memory == MAP_FAILED) {
    problems.add({path.string(), fmt::format("{} when mapping {} bytes", std::strerror(errno), bytes),
                  "a file that can be mapped", "raise the limit on address space (ulimit -v)"});
    return nullptr;
  }
  return static_cast<const std::byte*>(memory);
}

}  // namespace

std::int64_t StoredTensor::elements() const {
  std::int64_t count = 1;  // cannot overflow: the header's check bounds elements x bits by 64 bits
  for (const std::int64_t side : shape) {
    count *= side;
  }
  return count;
}

std::unique_ptr<ShardFile> ShardFile::open(const std::filesystem::path& path, Problems& problems) {
  std::unique_ptr<ShardFile> file(new ShardFile(path));
  file->memory_ = mapped(path, file->bytes_, problems);
  if (file->memory_ == nullptr) {
    return nullptr;
  }
  const std::string_view text(reinterpret_cast<const char*>(file->memory_), file->bytes_);
  for (std::uint64_t i = 0; i < kLengthBytes; ++i) {
    file->header_bytes_ |= std::uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
  }
  if (const std::uint64_t room = file->bytes_ - kLengthBytes; file->header_bytes_ > std::min(room, kHeaderBytesMax)) {
    problems.add({path.string(),
                  fmt::format("{}a header length of {}", seeming(text.substr(0, 64)), file->header_bytes_),
                  fmt::format("a safetensors file: at most {} bytes of header{}", std::min(room, kHeaderBytesMax),
                              room < kHeaderBytesMax ? " in a file of this size" : ""),
                  "fetch the file again"});
    return nullptr;
  }
  const std::byte* data = file->memory_ + kLengthBytes + file->header_bytes_;
  const std::uint64_t data_bytes = file->bytes_ - kLengthBytes - file->header_bytes_;
  for (HeaderEntry& entry : parse_safetensors_header(file->header(), data_bytes, path.string(), problems)) {
    if (!entry.whole) {
      file->broken_.push_back(std::move(entry.name));
      continue;
    }
    StoredTensor tensor{std::move(entry.name),   entry.type, std::move(entry.shape), data + entry.begin,
                        entry.end - entry.begin, file.get()};
    const auto element_bytes = static_cast<std::uintptr_t>(std::max(1, stored_type_bits(tensor.type) / 8));
    if (reinterpret_cast<std::uintptr_t>(tensor.data) % element_bytes != 0) {
      problems.add({fmt::format("tensor {} in {}", zoetrope::quoted(tensor.name, 200), path.string()),
                    fmt::format("a header of {} bytes", file->header_bytes_),
                    fmt::format("a header padded so that {} is aligned to {} bytes", stored_type_name(tensor.type),
                                element_bytes),
                    "save the file again with a current safetensors library"});
      file->broken_.push_back(std::move(tensor.name));
      continue;
    }
    file->tensors_.push_back(std::move(tensor));
  }
  return file;
}

std::unique_ptr<ShardFile> ShardFile::open(const std::filesystem::path& path) {
  Problems problems;
  std::unique_ptr<ShardFile> file = open(path, problems);
  problems.throw_first();
  return file;
}

ShardFile::~ShardFile() {
  if (memory_ != nullptr) {
    ::munmap(const_cast<std::byte*>(memory_), bytes_);
  }
}

std::string_view ShardFile::header() const {
  return {reinterpret_cast<const char*>(memory_) + kLengthBytes, header_bytes_};
}

}  // namespace zoetrope
