// A large private region of zeros that costs nothing until it is touched: packed weights and KV pages live in one each.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace zoetrope {

class AnonymousMemory {
 public:
  AnonymousMemory() = default;
  // `what` names the region when the system refuses it: Error(kStartup).
  AnonymousMemory(std::size_t bytes, std::string_view what);
  ~AnonymousMemory();
  AnonymousMemory(AnonymousMemory&& other) noexcept;
  AnonymousMemory& operator=(AnonymousMemory&& other) noexcept;

  std::byte* data() const { return data_; }  // page-aligned; null when bytes() == 0
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace zoetrope
