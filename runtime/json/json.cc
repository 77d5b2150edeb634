#include "runtime/json/json.h"

#include <fmt/format.h>

#include <clocale>
#include <cstdlib>

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <cmath>
#include <fstream>
#include <utility>
#include <vector>

namespace zoetrope::json {
namespace {

constexpr std::size_t kDepthMax = 64;

// The nearest double, with a decimal point whatever the process's locale says.
double exactly(const std::string& digits) {
  static const locale_t locale = newlocale(LC_ALL_MASK, "C", nullptr);
  return strtod_l(digits.c_str(), nullptr, locale);
}

// Builds the value by hand so that what Boost.JSON lets pass can be refused where it stands.
struct Builder {
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);
  using error_code = boost::json::error_code;
  using string_view = boost::json::string_view;

  struct Level {
    Value value;
    std::string key;  // of the member being read
  };
  std::vector<Level> open;
  Value root;
  std::string text;
  std::string complaint;  // what was wrong, when the parse was stopped by us

  bool stop(error_code& ec, std::string why) {
    complaint = std::move(why);
    ec = boost::json::error::syntax;
    return false;
  }
  bool put(Value value) {
    if (open.empty()) {
      root = std::move(value);
    } else if (open.back().value.is_array()) {
      open.back().value.as_array().push_back(std::move(value));
    } else {
      open.back().value.as_object().emplace(open.back().key, std::move(value));
    }
    return true;
  }
  bool close() {
    Value value = std::move(open.back().value);
    open.pop_back();
    return put(std::move(value));
  }
  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    open.push_back({Object{}, ""});
    return true;
  }
  bool on_object_end(std::size_t, error_code&) { return close(); }
  bool on_array_begin(error_code&) {
    open.push_back({Array{}, ""});
    return true;
  }
  bool on_array_end(std::size_t, error_code&) { return close(); }
  bool on_key_part(string_view part, std::size_t, error_code&) {
    text.append(part);
    return true;
  }
  bool on_key(string_view part, std::size_t, error_code& ec) {
    text.append(part);
    if (open.back().value.as_object().contains(text)) {
      return stop(ec, fmt::format("the key {} stands twice in one object", zoetrope::quoted(text)));
    }
    open.back().key = std::exchange(text, {});
    return true;
  }
  bool on_string_part(string_view part, std::size_t, error_code&) {
    text.append(part);
    return true;
  }
  bool on_string(string_view part, std::size_t, error_code&) {
    text.append(part);
    return put(Value(std::exchange(text, {})));
  }
  bool on_number_part(string_view part, error_code&) {
    text.append(part);
    return true;
  }
  bool on_int64(std::int64_t number, string_view, error_code&) {
    text.clear();
    return put(Value(number));
  }
  bool on_uint64(std::uint64_t number, string_view, error_code&) {
    text.clear();
    return put(Value(number));
  }
  bool on_double(double, string_view part, error_code& ec) {
    text.append(part);
    const std::string digits = std::exchange(text, {});
    // The parser's own conversion may be off by one unit in the last place, or by everything beside the range's ends.
    const double number = exactly(digits);
    if (!std::isfinite(number)) {
      return stop(ec, fmt::format("the number {} is larger than a double can hold", zoetrope::quoted(digits, 40)));
    }
    if (digits.find_first_of(".eE") == std::string::npos) {
      return stop(ec, fmt::format("the integer {} does not fit in 64 bits", zoetrope::quoted(digits, 40)));
    }
    return put(Value(number));
  }
  bool on_bool(bool value, error_code&) { return put(Value(value)); }
  bool on_null(error_code&) { return put(Value(nullptr)); }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }
};

}  // namespace

Value parse(std::string_view text, const Source& source) {
  boost::json::parse_options options;
  options.max_depth = kDepthMax;
  boost::json::basic_parser<Builder> parser(options);
  boost::json::error_code ec;
  const std::size_t read = parser.write_some(false, text.data(), text.size(), ec);
  std::size_t end = read;
  while (!ec && end < text.size() && std::string_view(" \t\r\n").find(text[end]) != std::string_view::npos) {
    ++end;
  }
  std::string why;
  if (ec) {
    why = parser.handler().complaint.empty() ? ec.message() : parser.handler().complaint;
  } else if (end < text.size()) {
    why = fmt::format("{} after the end of the value", zoetrope::quoted(text.substr(end), 20));
  } else {
    return std::move(parser.handler().root);
  }
  refuse_lfs_pointer(text, source, "JSON text");
  const std::string_view before = text.substr(0, std::min(end, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto column = before.size() - (before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1) + 1;
  zoetrope::refuse(source.radius, {fmt::format("{}: not valid JSON at line {}, column {}", source.name, line, column),
                                   why, "strict JSON (RFC 8259)", "correct the text there"});
}

bool is_lfs_pointer(std::string_view text) { return text.starts_with("version https://git-lfs"); }

void refuse_lfs_pointer(std::string_view text, const Source& source, std::string_view expected) {
  if (is_lfs_pointer(text)) {
    zoetrope::refuse(source.radius, {source.name, "a Git LFS pointer instead of the file", std::string(expected),
                                     "fetch the file itself with `git lfs pull` in the folder it came from"});
  }
}

Value parse_file(const std::filesystem::path& file, Radius radius, std::size_t bytes_max) {
  std::error_code ec;
  if (!std::filesystem::is_regular_file(file, ec)) {
    zoetrope::refuse(radius, {file.string(),
                              std::filesystem::exists(file, ec) ? "something that is no regular file" : "no such file",
                              "a JSON file", "check the path"});
  }
  const auto size = std::filesystem::file_size(file, ec);
  if (ec) {
    zoetrope::refuse(radius, {file.string(), ec.message(), "a readable file", "check its permissions"});
  }
  if (size > bytes_max) {
    zoetrope::refuse(radius, {file.string(), fmt::format("{} bytes", size),
                              fmt::format("at most {} bytes of JSON", bytes_max), "check that this is the right file"});
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(size, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size))) {
    zoetrope::refuse(radius, {file.string(), "a file that cannot be read", fmt::format("{} readable bytes", size),
                              "check its permissions"});
  }
  return parse(text, {file.string(), radius});
}

std::string described(const Value& value) {
  switch (value.kind()) {
    case boost::json::kind::null:
      return "null";
    case boost::json::kind::bool_:
      return value.get_bool() ? "true" : "false";
    case boost::json::kind::int64:
      return fmt::format("the number {}", value.get_int64());
    case boost::json::kind::uint64:
      return fmt::format("the number {}", value.get_uint64());
    case boost::json::kind::double_:
      return fmt::format("the number {}", value.get_double());
    case boost::json::kind::string:
      return fmt::format("the text {}", zoetrope::quoted(std::string_view(value.get_string()), 40));
    case boost::json::kind::array:
      return fmt::format("a list of {}", value.get_array().size());
    case boost::json::kind::object:
      return fmt::format("an object of {} fields", value.get_object().size());
  }
  return "an unknown kind of value";
}

Fields::Fields(const Object& object, Source source, std::string path)
    : object_(&object), source_(std::move(source)), path_(std::move(path)) {}

Fields::Fields(const Value& value, Source source, std::string path)
    : source_(std::move(source)), path_(std::move(path)) {
  if (!value.is_object()) {
    zoetrope::refuse(source_.radius, {source_.name + (path_.empty() ? "" : ": " + path_), described(value), "an object",
                                      "write it as {\"field\": value, ...}"});
  }
  object_ = &value.get_object();
}

std::string Fields::name_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

void Fields::refuse(std::string_view key, std::string found, std::string expected, std::string remedy) const {
  zoetrope::refuse(source_.radius,
                   {source_.name + ": " + name_of(key), std::move(found), std::move(expected), std::move(remedy)});
}

const Value* Fields::find(std::string_view key) const {
  const Value* value = object_->if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool Fields::has(std::string_view key) const { return find(key) != nullptr; }

const Value& Fields::required(std::string_view key, std::string_view expected) const {
  const Value* value = find(key);
  if (value == nullptr) {
    refuse(key, object_->contains(key) ? "null" : "nothing (the field is missing)", std::string(expected),
           "add the field");
  }
  return *value;
}

namespace {

std::optional<std::int64_t> whole(const Value& value) {
  if (value.is_int64()) {
    return value.get_int64();
  }
  if (value.is_double() && std::floor(value.get_double()) == value.get_double() &&
      std::abs(value.get_double()) < 9e15) {
    return static_cast<std::int64_t>(value.get_double());
  }
  return std::nullopt;
}

}  // namespace

std::int64_t Fields::integer(std::string_view key, std::int64_t at_least, std::int64_t at_most) const {
  const std::string expected = fmt::format("a whole number from {} to {}", at_least, at_most);
  const Value& value = required(key, expected);
  const auto number = whole(value);
  if (!number || *number < at_least || *number > at_most) {
    refuse(key, described(value), expected, "change the value");
  }
  return *number;
}

double Fields::number(std::string_view key) const {
  const Value& value = required(key, "a number");
  if (!value.is_number()) {
    refuse(key, described(value), "a number", "change the value");
  }
  return value.to_number<double>();
}

bool Fields::boolean(std::string_view key) const {
  const Value& value = required(key, "true or false");
  if (!value.is_bool()) {
    refuse(key, described(value), "true or false", "change the value");
  }
  return value.get_bool();
}

std::string Fields::text(std::string_view key) const {
  const Value& value = required(key, "a text");
  if (!value.is_string()) {
    refuse(key, described(value), "a text", "put it in quotes");
  }
  return std::string(value.get_string());
}

Fields Fields::child(std::string_view key) const {
  return Fields(required(key, "an object"), source_, name_of(key));
}

const Array& Fields::array(std::string_view key) const {
  const Value& value = required(key, "a list");
  if (!value.is_array()) {
    refuse(key, described(value), "a list", "write it as [value, ...]");
  }
  return value.get_array();
}

std::int64_t Fields::integer_or(std::string_view key, std::int64_t otherwise, std::int64_t at_least,
                                std::int64_t at_most) const {
  return has(key) ? integer(key, at_least, at_most) : otherwise;
}

double Fields::number_or(std::string_view key, double otherwise) const { return has(key) ? number(key) : otherwise; }

bool Fields::boolean_or(std::string_view key, bool otherwise) const { return has(key) ? boolean(key) : otherwise; }

std::string Fields::text_or(std::string_view key, std::string otherwise) const {
  return has(key) ? text(key) : std::move(otherwise);
}

}  // namespace zoetrope::json
