#include "monitoring/error.h"

#include <fmt/format.h>

namespace zoetrope {
namespace {

std::string rendered(const Complaint& complaint) {
  std::string text = complaint.what;
  if (!complaint.found.empty()) {
    text += ": found " + complaint.found;
  }
  if (!complaint.expected.empty()) {
    text += (complaint.found.empty() ? ": expected " : ", expected ") + complaint.expected;
  }
  if (!complaint.remedy.empty()) {
    text += "; " + complaint.remedy;
  }
  return text;
}

}  // namespace

Error::Error(Radius radius, const Complaint& complaint) : Error(radius, rendered(complaint)) {}

Error::Error(Radius radius, const std::string& message) : std::runtime_error(message), radius_(radius) {}

void refuse(Radius radius, Complaint complaint) { throw Error(radius, complaint); }

std::string quoted(std::string_view text, std::size_t characters_max) {
  std::string out = "'";
  for (std::size_t i = 0; i < text.size() && i < characters_max; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + (text.size() > characters_max ? "...'" : "'");
}

}  // namespace zoetrope
