// Memory that is asked for again and again with changing sizes: it only grows and is never cleared, so that a steady
// state allocates nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

namespace zoetrope {

template <typename T>
requires std::is_trivially_copyable_v<T>
class GrowOnly {
 public:
  // At least `count` elements; when the memory has to grow, what was in it is lost.
  T* at_least(std::size_t count) {
    if (count > capacity_) {
      capacity_ = count + count / 4;
      memory_ = std::make_unique_for_overwrite<T[]>(capacity_);
    }
    return memory_.get();
  }

 private:
  std::unique_ptr<T[]> memory_;
  std::size_t capacity_ = 0;
};

}  // namespace zoetrope
