#include "runtime/checkpoint/config_fields.h"

#include <fmt/format.h>

namespace zoetrope {

using json::Fields;

// A field that this program implements for one value only.
void require_text(const Fields& fields, std::string_view key, std::string_view only) {
  if (const std::string found = fields.text_or(key, std::string(only)); found != only) {
    fields.refuse(key, zoetrope::quoted(found), fmt::format("'{}'", only), "other values are not implemented");
  }
}

void require_flag(const Fields& fields, std::string_view key, bool only) {
  if (fields.boolean_or(key, only) != only) {
    fields.refuse(key, only ? "false" : "true", only ? "true" : "false", "the other value is not implemented");
  }
}

void require_number(const Fields& fields, std::string_view key, std::int64_t only) {
  if (const std::int64_t found = fields.integer(key, 0, INT32_MAX); found != only) {
    fields.refuse(key, fmt::format("{}", found), fmt::format("{}", only), "other values are not implemented");
  }
}

void require_divides(const Fields& fields, std::string_view key, std::int64_t whole, std::int64_t parts,
                     std::string_view what) {
  if (whole % parts != 0) {
    fields.refuse(key, fmt::format("{}, and {} % {} = {}", whole, whole, parts, whole % parts),
                  fmt::format("a multiple of {}, the {}", parts, what), "correct the configuration");
  }
}

std::vector<std::int32_t> token_ids(const Fields& fields, std::string_view key, std::int64_t vocabulary) {
  std::vector<std::int32_t> ids;
  const json::Value* value = fields.find(key);
  if (value == nullptr) {
    return ids;
  }
  const json::Array one{*value};
  for (const json::Value& id : value->is_array() ? value->get_array() : one) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= vocabulary) {
      fields.refuse(key, json::described(id), fmt::format("token ids from 0 to {} (vocab_size - 1)", vocabulary - 1),
                    "correct the id");
    }
    ids.push_back(static_cast<std::int32_t>(id.get_int64()));
  }
  return ids;
}

}  // namespace zoetrope
