// The name a person probably meant: for unknown fields and flags.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace zoetrope {

// The candidate with the smallest edit distance (with swaps of neighbours), "" when none is close: more than a third of
// its letters differ.
std::string nearest_name(std::string_view given, std::span<const std::string_view> candidates);

}  // namespace zoetrope
