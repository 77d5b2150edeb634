// What was found out about media files lately, so that many questions about one film ask it once, also when they come
// together. Thread-safe.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <future>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/media/source.h"

namespace zoetrope {

// What a source is known by: path, size and modification time of a file, the identity of bytes. Empty: it is not there.
inline std::string identity_of(const MediaSource& source) {
  if (source.bytes) {
    return fmt::format("bytes {} {}", static_cast<const void*>(source.bytes.get()), source.bytes->size());
  }
  std::error_code no_size, no_time;
  const auto size = std::filesystem::file_size(source.path, no_size);
  const auto time = std::filesystem::last_write_time(source.path, no_time);
  return no_size || no_time ? "" : fmt::format("{} {} {}", source.path.string(), size, time.time_since_epoch().count());
}

// Keeps a T for each of the `most` latest sources; of bytes for as long as somebody holds them: nothing here keeps a
// film in memory.
template <typename T>
class SourceCache {
 public:
  explicit SourceCache(std::size_t most) : most_(most) {}

  // The kept T of the source, or make(source). Those who ask while it is being made wait for it, and fail with it.
  template <typename Make>
  T find_or_make(const MediaSource& source, const Make& make) {
    const std::string key = identity_of(source);
    if (key.empty()) {
      return make(source);
    }
    std::promise<T> made;
    {
      std::unique_lock lock(mutex_);
      kept_.remove_if([](const Kept& k) { return k.of_bytes && k.bytes.expired(); });  // the address may be another's
      const auto at = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& k) { return k.key == key; });
      if (at != kept_.end()) {
        kept_.splice(kept_.begin(), kept_, at);
        const std::shared_future<T> value = at->value;
        lock.unlock();
        return value.get();
      }
      kept_.push_front({key, source.bytes != nullptr, source.bytes, made.get_future().share()});
      if (kept_.size() > most_) {
        kept_.pop_back();
      }
    }
    try {
      T value = make(source);
      made.set_value(value);
      return value;
    } catch (...) {
      made.set_exception(std::current_exception());
      const std::lock_guard lock(mutex_);
      kept_.remove_if([&](const Kept& k) { return k.key == key; });  // the next one looks again
      throw;
    }
  }

 private:
  struct Kept {
    std::string key;
    bool of_bytes = false;
    std::weak_ptr<const std::vector<std::byte>> bytes;
    std::shared_future<T> value;
  };

  const std::size_t most_;
  std::mutex mutex_;
  std::list<Kept> kept_;  // latest first
};

}  // namespace zoetrope
