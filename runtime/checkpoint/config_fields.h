// What the readers of config.json and generation_config.json demand of single fields. All throw Error(kStartup).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/json/json.h"

namespace zoetrope {

// A field that this program implements for one value only; absent counts as that value (numbers must stand there).
void require_text(const json::Fields& fields, std::string_view key, std::string_view only);
void require_flag(const json::Fields& fields, std::string_view key, bool only);
void require_number(const json::Fields& fields, std::string_view key, std::int64_t only);

// `whole` (what `key` says) is a multiple of `parts`, the `what`.
void require_divides(const json::Fields& fields, std::string_view key, std::int64_t whole, std::int64_t parts,
                     std::string_view what);

// One token id or a list of them, each below `vocabulary`; empty when the field is absent.
std::vector<std::int32_t> token_ids(const json::Fields& fields, std::string_view key, std::int64_t vocabulary);

}  // namespace zoetrope
