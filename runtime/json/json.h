// Strict JSON in front of Boost.JSON, which lets duplicate keys, 1e999 and integers beyond 64 bits through.
// Used for everything that comes from outside: checkpoint files, batch lines, arguments.
#pragma once

#include <boost/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "monitoring/error.h"

namespace zoetrope::json {

using Array = boost::json::array;
using Object = boost::json::object;  // keeps insertion order
using Value = boost::json::value;

// What a message calls the text ("config.json", "requests.jsonl line 7") and how much a mistake in it breaks.
struct Source {
  std::string name;
  Radius radius = Radius::kRequest;
};

// Parses one complete JSON text of at most 64 nested levels. Throws Error naming the source, line and column:
// duplicate key, number beyond a double or beyond 64 bits, invalid UTF-8, anything after the value.
Value parse(std::string_view text, const Source& source);

// Reads a file of at most `bytes_max` bytes and parses it.
Value parse_file(const std::filesystem::path& file, Radius radius, std::size_t bytes_max = std::size_t{256} << 20);

// A Git LFS pointer stands where the file should be: what a clone without LFS leaves behind.
bool is_lfs_pointer(std::string_view text);
// Error in that radius that says so and how to get the file; returns when `text` is none.
void refuse_lfs_pointer(std::string_view text, const Source& source, std::string_view expected);

// A view of one object that names the path of a field in every message. `Fields` never outlives the object.
class Fields {
 public:
  Fields(const Object& object, Source source, std::string path = "");
  Fields(const Value& value, Source source, std::string path = "");  // throws Error unless `value` is an object

  const Object& object() const { return *object_; }
  const Source& source() const { return source_; }
  bool has(std::string_view key) const;                // present and not null
  const Value* find(std::string_view key) const;       // nullptr when absent or null

  // Required fields: throw Error when absent or of another type or outside the bounds.
  std::int64_t integer(std::string_view key, std::int64_t at_least, std::int64_t at_most) const;
  double number(std::string_view key) const;
  bool boolean(std::string_view key) const;
  std::string text(std::string_view key) const;
  Fields child(std::string_view key) const;
  const Array& array(std::string_view key) const;

  // Optional fields: `otherwise` when absent or null, Error when of another type or outside the bounds.
  std::int64_t integer_or(std::string_view key, std::int64_t otherwise, std::int64_t at_least,
                          std::int64_t at_most) const;
  double number_or(std::string_view key, double otherwise) const;
  bool boolean_or(std::string_view key, bool otherwise) const;
  std::string text_or(std::string_view key, std::string otherwise) const;

  // Throws Error in the source's radius: "<source>: <path.key>: found ..., expected ...; ...".
  [[noreturn]] void refuse(std::string_view key, std::string found, std::string expected, std::string remedy) const;

 private:
  std::string name_of(std::string_view key) const;
  const Value& required(std::string_view key, std::string_view expected) const;

  const Object* object_;
  Source source_;
  std::string path_;
};

// "a string", "the number 3", "a list of 4": for messages.
std::string described(const Value& value);

}  // namespace zoetrope::json
