#include "runtime/text/python_json.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace zoetrope {
namespace {

void write_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void write(std::string& out, const json::Value& value) {
  switch (value.kind()) {
    case boost::json::kind::null:
      out += "null";
      break;
    case boost::json::kind::bool_:
      out += value.get_bool() ? "true" : "false";
      break;
    case boost::json::kind::int64:
      out += fmt::format("{}", value.get_int64());
      break;
    case boost::json::kind::uint64:
      out += fmt::format("{}", value.get_uint64());
      break;
    case boost::json::kind::double_:
      out += python_float(value.get_double());
      break;
    case boost::json::kind::string:
      write_string(out, value.get_string());
      break;
    case boost::json::kind::array: {
      const char* separator = "[";
      for (const json::Value& element : value.get_array()) {
        out += separator;
        write(out, element);
        separator = ", ";
      }
      out += value.get_array().empty() ? "[]" : "]";
      break;
    }
    case boost::json::kind::object: {
      const char* separator = "{";
      for (const auto& [key, member] : value.get_object()) {
        out += separator;
        write_string(out, key);
        out += ": ";
        write(out, member);
        separator = ", ";
      }
      out += value.get_object().empty() ? "{}" : "}";
      break;
    }
  }
}

}  // namespace

std::string to_python_json(const json::Value& value) {
  std::string out;
  write(out, value);
  return out;
}

std::string python_float(double value) {
  if (!std::isfinite(value)) {
    return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
  }
  char shortest[40];  // "-d.dddde-xxx" with the fewest digits
  const auto end = std::to_chars(shortest, shortest + sizeof(shortest), value, std::chars_format::scientific).ptr;
  const std::string_view written(shortest, static_cast<std::size_t>(end - shortest));
  const std::size_t e = written.find('e');
  const int exponent = std::stoi(std::string(written.substr(e + 1)));
  const std::string sign = written[0] == '-' ? "-" : "";
  std::string digits;
  for (const char c : written.substr(0, e)) {
    if (c >= '0' && c <= '9') {
      digits += c;
    }
  }
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    return fmt::format("{}{}{}{}e{}{:02}", sign, digits[0], count > 1 ? "." : "", digits.substr(1),
                       exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) {
    return fmt::format("{}0.{:0>{}}{}", sign, "", -exponent - 1, digits);
  }
  if (count <= exponent + 1) {
    return fmt::format("{}{:0<{}}.0", sign, digits, exponent + 1);
  }
  const auto whole = static_cast<std::size_t>(exponent + 1);
  return fmt::format("{}{}.{}", sign, digits.substr(0, whole), digits.substr(whole));
}

}  // namespace zoetrope
