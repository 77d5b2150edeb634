// The published pre-tokenizer's pattern as a hand-written scanner: every character is read a bounded number of times.
#pragma once

#include <cstddef>
#include <string_view>

namespace zoetrope {

// The pattern a checkpoint must name for next_word() to be its pre-tokenizer.
inline constexpr std::string_view kPretokenizerPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// End of the word that starts at `at` < text.size(); the words of a text lie end to end.
std::size_t next_word(std::string_view valid_utf8, std::size_t at);

}  // namespace zoetrope
