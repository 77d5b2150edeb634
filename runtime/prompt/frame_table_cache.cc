#include "runtime/prompt/frame_table_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <future>
#include <list>
#include <mutex>
#include <string>
#include <utility>

namespace zoetrope {
namespace {

constexpr std::size_t kTablesMax = 32;

struct Kept {
  std::string key;
  std::shared_ptr<const std::vector<std::byte>> bytes;  // keeps the address in the key from being used again
  std::shared_future<std::shared_ptr<const FrameTable>> table;  // those who ask while it is being made wait for it
};

std::string key_of(const MediaSource& source) {
  if (source.bytes) {
    return fmt::format("bytes {} {}", static_cast<const void*>(source.bytes.get()), source.bytes->size());
  }
  std::error_code ec;
  const auto size = std::filesystem::file_size(source.path, ec);
  const auto time = std::filesystem::last_write_time(source.path, ec);
  return ec ? "" : fmt::format("{} {} {}", source.path.string(), size, time.time_since_epoch().count());
}

}  // namespace

std::shared_ptr<const FrameTable> frame_table_of(const MediaSource& source) {
  static std::mutex mutex;
  static std::list<Kept> kept;  // latest first
  const std::string key = key_of(source);
  std::promise<std::shared_ptr<const FrameTable>> made;
  if (!key.empty()) {
    std::unique_lock lock(mutex);
    const auto at = std::find_if(kept.begin(), kept.end(), [&](const Kept& k) { return k.key == key; });
    if (at != kept.end()) {
      kept.splice(kept.begin(), kept, at);
      const auto table = at->table;
      lock.unlock();
      return table.get();
    }
    kept.push_front({key, source.bytes, made.get_future().share()});
    if (kept.size() > kTablesMax) {
      kept.pop_back();
    }
  }
  try {
    auto table = std::make_shared<const FrameTable>(read_frame_table(source));
    made.set_value(table);
    return table;
  } catch (...) {
    // Whoever waits fails alike; the next one looks again.
    made.set_exception(std::current_exception());
    const std::lock_guard lock(mutex);
    kept.remove_if([&](const Kept& k) { return k.key == key; });
    throw;
  }
}

}  // namespace zoetrope
