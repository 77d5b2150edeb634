// Frame tables of films that were looked at lately: many questions about one film demux it once, also when they
// come together. Thread-safe.
#pragma once

#include <memory>

#include "runtime/media/frame_table.h"

namespace zoetrope {

// Keyed by path, size and modification time; films given as bytes by the identity of their bytes. Keeps the 32 latest.
std::shared_ptr<const FrameTable> frame_table_of(const MediaSource& source);

}  // namespace zoetrope
