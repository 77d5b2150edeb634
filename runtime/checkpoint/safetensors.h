// One safetensors file: strict header, contents memory-mapped read-only. Nothing is read before it is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/checkpoint/problems.h"

namespace zoetrope {

// Every type the format knows. Weights are kBF16 or kF8E4M3, scales kF32; the others are recognised to be refused by
// name.
enum class StoredType {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

std::string_view stored_type_name(StoredType type);  // as the file spells it: "BF16"
int stored_type_bits(StoredType type);

class ShardFile;

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::kBF16;
  std::vector<std::int64_t> shape;  // row-major, outermost first
  const std::byte* data = nullptr;  // aligned to its element; lives as long as the ShardFile
  std::size_t bytes = 0;
  const ShardFile* file = nullptr;  // for messages

  std::int64_t elements() const;
  template <typename T>
  const T* as() const {  // no conversion: T is the stored element
    return reinterpret_cast<const T*>(data);
  }
};

// "[4096, 2048]"
std::string shape_text(const std::vector<std::int64_t>& shape);

// A tensor as the header tells it; offsets count from the first byte after the header.
struct HeaderEntry {
  std::string name;
  StoredType type = StoredType::kBF16;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
  bool whole = true;  // false: a problem was reported, only the name can be trusted
};

// Reads a header's JSON text and checks it against the `data_bytes` that follow it: unknown types, shape x type against
// offsets, overlaps, holes, tensors or bytes beyond either end, misaligned elements. What is wrong goes to `problems`
// with the tensor and `file`. Returned are all tensors that the header names.
std::vector<HeaderEntry> parse_safetensors_header(std::string_view header, std::uint64_t data_bytes,
                                                  const std::string& file, Problems& problems);

class ShardFile {
 public:
  static constexpr std::uint64_t kHeaderBytesMax = 100'000'000;  // the format's own limit

  // Maps the file. What is wrong with it goes to `problems`; the tensors that are whole can be used all the same.
  // nullptr when there is nothing to map: no such file, no readable header.
  static std::unique_ptr<ShardFile> open(const std::filesystem::path& path, Problems& problems);
  // The same, but any problem is an Error(kStartup).
  static std::unique_ptr<ShardFile> open(const std::filesystem::path& path);
  ~ShardFile();
  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string name() const { return path_.filename().string(); }
  std::uint64_t bytes() const { return bytes_; }
  // Copies part of a tensor of this file without mapping it: a file that shrank meanwhile is an Error(kStartup), where
  // a touch of the mapping would be a signal.
  void read(const StoredTensor& tensor, std::size_t offset, void* to, std::size_t bytes) const;
  std::string_view header() const;                                       // the JSON text
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // the whole ones, by rising offset
  const std::vector<std::string>& broken() const { return broken_; }     // tensors that a problem was reported for

 private:
  explicit ShardFile(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
  int descriptor_ = -1;
  const std::byte* memory_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::uint64_t header_bytes_ = 0;
  std::vector<StoredTensor> tensors_;
  std::vector<std::string> broken_;
};

}  // namespace zoetrope
