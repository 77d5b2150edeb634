#include "runtime/prompt/token_checks.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "monitoring/error.h"

namespace zoetrope {

void check_tokens(const Tokenizer& tokenizer, const ModelConfig& config) {
  const char* const remedy = "use the tokenizer files that were published with this checkpoint";
  if (tokenizer.size() > config.text.vocabulary) {
    refuse(Radius::kStartup, {"tokenizer", fmt::format("token ids up to {}", tokenizer.size() - 1),
                              fmt::format("ids below vocab_size {} of config.json", config.text.vocabulary), remedy});
  }
  const std::pair<std::string_view, std::int32_t> tokens[] = {{"<|image_pad|>", config.image_token},
                                                              {"<|video_pad|>", config.video_token},
                                                              {"<|vision_start|>", config.vision_start},
                                                              {"<|vision_end|>", config.vision_end}};
  for (const auto& [surface, id] : tokens) {
    if (const std::optional<TokenId> known = tokenizer.added_token(surface); known != id) {
      refuse(Radius::kStartup,
             {fmt::format("tokenizer: {}", surface), known ? fmt::format("id {}", *known) : "no such token",
              fmt::format("id {} as in config.json", id), remedy});
    }
  }
}

}  // namespace zoetrope
