// SHA-256 as lower-case hexadecimal text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace zoetrope {

class Digest {
 public:
  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  void add(const void* data, std::size_t bytes);
  // The length goes in front, so that two texts never run into each other.
  void add_text(std::string_view text);
  void add_number(std::uint64_t number);
  std::string finish();  // 64 hexadecimal digits; once

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// Reads the whole file. Error(kStartup) when it cannot be read.
std::string file_digest(const std::filesystem::path& file);

}  // namespace zoetrope
