// Flat encoding of values that travel between ranks: integers and floats as they lie in memory, lists and texts with a
// 64-bit length in front. Both ends are the same program on the same kind of machine, compared at start. The reader
// checks every length against what is left before it asks for memory.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "monitoring/error.h"

namespace zoetrope {

class WireWriter {
 public:
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  void put(const T& value) {
    append(std::as_bytes(std::span(&value, 1)));
  }
  void put_bytes(std::span<const std::byte> bytes) {
    put(static_cast<std::uint64_t>(bytes.size()));
    append(bytes);
  }
  void put_text(std::string_view text) { put_bytes(std::as_bytes(std::span(text))); }
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  void put_list(const std::vector<T>& values) {
    put(static_cast<std::uint64_t>(values.size()));
    append(std::as_bytes(std::span(values)));
  }
  template <typename T, typename PutOne>
  void put_list(const std::vector<T>& values, PutOne put_one) {
    put(static_cast<std::uint64_t>(values.size()));
    for (const T& value : values) {
      put_one(value);
    }
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  void append(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  std::vector<std::byte> bytes_;
};

// `what` names the message in errors: "a step plan".
class WireReader {
 public:
  WireReader(std::span<const std::byte> bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  template <typename T>
    requires std::is_trivially_copyable_v<T>
  T get() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  bool get_flag() {
    const auto value = get<std::uint8_t>();
    if (value > 1) {
      malformed(fmt::format("the flag {}", value), "0 or 1");
    }
    return value == 1;
  }
  std::span<const std::byte> get_bytes() { return take(get<std::uint64_t>()); }
  std::string get_text() {
    const auto bytes = get_bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  std::vector<T> get_list() {
    const auto count = checked_count(sizeof(T));
    std::vector<T> values(count);
    if (count > 0) {
      std::memcpy(values.data(), take(count * sizeof(T)).data(), count * sizeof(T));
    }
    return values;
  }
  // least_bytes: what one element takes at least, so that a lying length cannot ask for memory.
  template <typename GetOne>
  auto get_list(std::size_t least_bytes, GetOne get_one) {
    std::vector<decltype(get_one())> values;
    const auto count = checked_count(least_bytes);
    values.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      values.push_back(get_one());
    }
    return values;
  }
  void end() const {
    if (at_ != bytes_.size()) {
      malformed(fmt::format("{} bytes after the end", bytes_.size() - at_), "none");
    }
  }
  [[noreturn]] void malformed(std::string found, std::string expected) const {
    refuse(Radius::kCluster, {fmt::format("{} of {} bytes, at byte {}", what_, bytes_.size(), at_), std::move(found),
                              std::move(expected), "start all ranks with the same program"});
  }

 private:
  std::span<const std::byte> take(std::uint64_t count) {
    if (count > bytes_.size() - at_) {
      malformed(fmt::format("{} bytes left", bytes_.size() - at_), fmt::format("{} more", count));
    }
    const auto part = bytes_.subspan(at_, count);
    at_ += count;
    return part;
  }
  std::uint64_t checked_count(std::size_t least_bytes) {
    const auto count = get<std::uint64_t>();
    const std::size_t most = (bytes_.size() - at_) / least_bytes;
    if (count > most) {
      malformed(fmt::format("a list of {}", count), fmt::format("at most {} in what is left", most));
    }
    return count;
  }

  std::span<const std::byte> bytes_;
  std::string_view what_;
  std::size_t at_ = 0;
};

}  // namespace zoetrope
