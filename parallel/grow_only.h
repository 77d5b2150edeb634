// Memory that is asked for again and again with changing sizes: it only grows and is never cleared, so that a steady
// state allocates nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>

namespace zoetrope {

template <typename T>
requires std::is_trivially_copyable_v<T>
class GrowOnly {
 public:
  // At least `count` elements; when the memory has to grow, what was in it is lost but for the first `kept` elements.
  T* at_least(std::size_t count, std::size_t kept = 0) {
    if (count > capacity_) {
      const std::size_t capacity = count + count / 4;
      auto memory = std::make_unique_for_overwrite<T[]>(capacity);
      std::copy_n(memory_.get(), std::min(kept, capacity_), memory.get());
      memory_ = std::move(memory);
      capacity_ = capacity;
    }
    return memory_.get();
  }

 private:
  std::unique_ptr<T[]> memory_;
  std::size_t capacity_ = 0;
};

}  // namespace zoetrope
