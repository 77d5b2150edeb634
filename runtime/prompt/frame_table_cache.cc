#include "runtime/prompt/frame_table_cache.h"

#include <fmt/format.h>

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
  std::shared_ptr<const FrameTable> table;
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
  if (!key.empty()) {
    const std::lock_guard lock(mutex);
    for (auto at = kept.begin(); at != kept.end(); ++at) {
      if (at->key == key) {
        kept.splice(kept.begin(), kept, at);
        return at->table;
      }
    }
  }
  auto table = std::make_shared<const FrameTable>(read_frame_table(source));
  if (!key.empty()) {
    const std::lock_guard lock(mutex);
    kept.push_front({key, source.bytes, table});
    if (kept.size() > kTablesMax) {
      kept.pop_back();
    }
  }
  return table;
}

}  // namespace zoetrope
