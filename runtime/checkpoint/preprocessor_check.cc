#include "runtime/checkpoint/preprocessor_check.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "runtime/checkpoint/folder.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

void check_one(const std::filesystem::path& file, const VisionConfig& vision) {
  const json::Source source{file.string(), Radius::kStartup};
  const json::Value value = json::parse(read_text_file(file), source);
  const json::Fields fields(value, source);
  const std::pair<std::string_view, int> sizes[] = {
      {"patch_size", vision.patch}, {"temporal_patch_size", vision.temporal_patch}, {"merge_size", vision.merge}};
  for (const auto& [key, expected] : sizes) {
    if (fields.integer_or(key, expected, 1, 1 << 20) != expected) {
      fields.refuse(key, json::described(*fields.find(key)), fmt::format("{}, as vision_config says", expected),
                    "fetch the published files of one checkpoint");
    }
  }
}

}  // namespace

void check_preprocessors(const std::filesystem::path& folder, const VisionConfig& vision, Problems& problems) {
  for (const std::string_view name : {"preprocessor_config.json", "video_preprocessor_config.json"}) {
    try {
      const std::filesystem::path file = file_in(folder, name);
      std::error_code ec;
      if (std::filesystem::exists(file, ec)) {
        check_one(file, vision);
      }
    } catch (const Error& error) {
      problems.add(error);
    }
  }
}

}  // namespace zoetrope
