#include "runtime/checkpoint/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "monitoring/check.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/mapped_files.h"

namespace zoetrope {
namespace {

constexpr std::uint64_t kLengthBytes = 8;  // the header's length, little-endian, in front of it

std::string seeming(std::string_view first_bytes) {
  const std::string other = looks_like(first_bytes);
  return other.empty() ? "" : other + ", ";
}

// Maps all of the file; nullptr (with a problem) when that cannot be.
const std::byte* mapped(int descriptor, const std::filesystem::path& path, std::uint64_t& bytes, Problems& problems) {
  struct stat status {};
  if (descriptor < 0 || ::fstat(descriptor, &status) != 0) {
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
  void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) {
    problems.add({path.string(), fmt::format("{} when mapping {} bytes", std::strerror(errno), bytes),
                  "a file that can be mapped", "raise the limit on address space (ulimit -v)"});
    return nullptr;
  }
  remember_mapping(static_cast<const std::byte*>(memory), bytes, path);
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
  file->descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // never waits for a pipe's writer
  file->memory_ = mapped(file->descriptor_, path, file->bytes_, problems);
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
    forget_mapping(memory_);
    ::munmap(const_cast<std::byte*>(memory_), bytes_);
  }
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void ShardFile::read(const StoredTensor& tensor, std::size_t offset, void* to, std::size_t bytes) const {
  check(tensor.file == this && offset <= tensor.bytes && bytes <= tensor.bytes - offset, "the part lies in the tensor");
  const auto start = static_cast<std::uint64_t>(tensor.data - memory_) + offset;
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got =
        ::pread(descriptor_, static_cast<std::byte*>(to) + done, bytes - done, static_cast<off_t>(start + done));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      refuse(Radius::kStartup,
             {fmt::format("tensor {} in {}", zoetrope::quoted(tensor.name, 200), path_.string()),
              got == 0 ? fmt::format("the end of the file after {} bytes", start + done) : std::strerror(errno),
              fmt::format("{} bytes, as when it was opened", bytes_), "leave the checkpoint alone while it is in use"});
    }
    done += static_cast<std::size_t>(got);
  }
}

std::string_view ShardFile::header() const {
  return {reinterpret_cast<const char*>(memory_) + kLengthBytes, header_bytes_};
}

}  // namespace zoetrope
