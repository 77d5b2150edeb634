// Which of the published chat templates a checkpoint carries. Templates are recognised by their text, never executed.
#pragma once

#include <filesystem>
#include <string_view>

namespace zoetrope {

enum class Edition { kInstruct, kThinking };

// The template of chat_template.jinja, else of chat_template.json, else of tokenizer_config.json: the first that
// exists, which is the one the reference library uses. Throws Error(kStartup) when there is none or it is unknown.
Edition load_edition(const std::filesystem::path& folder);

// The edition whose published text this is, but for line endings and blanks at its end. Throws Error(kStartup).
Edition edition_of(std::string_view template_text, std::string_view source);

}  // namespace zoetrope
