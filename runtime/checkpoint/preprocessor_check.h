// preprocessor_config.json and video_preprocessor_config.json against the vision tower: pictures cut in patches of
// another size than the weights know would be answered wrongly. What else stands in these files is read by the media
// room.
#pragma once

#include <filesystem>

#include "runtime/checkpoint/config.h"
#include "runtime/checkpoint/problems.h"

namespace zoetrope {

// Files and fields that are absent pass.
void check_preprocessors(const std::filesystem::path& folder, const VisionConfig& vision, Problems& problems);

}  // namespace zoetrope
