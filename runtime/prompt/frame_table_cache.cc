#include "runtime/prompt/frame_table_cache.h"

#include "runtime/prompt/source_cache.h"

namespace zoetrope {

std::shared_ptr<const FrameTable> frame_table_of(const MediaSource& source) {
  static SourceCache<std::shared_ptr<const FrameTable>> tables(32);
  return tables.find_or_make(
      source, [](const MediaSource& film) { return std::make_shared<const FrameTable>(read_frame_table(film)); });
}

}  // namespace zoetrope
