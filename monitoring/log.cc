#include "monitoring/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <memory>

namespace zoetrope::log {
namespace {

std::atomic<int> rank_shown{-1};

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("zoetrope", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    made->set_level(spdlog::level::warn);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// A value with spaces, quotes or control characters is quoted, so that an event is one line that can be split again.
std::string shown(const std::string& value) {
  if (!value.empty() && value.find_first_of(" \"=\\") == std::string::npos &&
      std::none_of(value.begin(), value.end(), is_control)) {
    return value;
  }
  std::string out = "\"";
  for (const char c : value) {
    if (is_control(c)) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + "\"";
}

}  // namespace

void set_level(Level level) { logger().set_level(spdlog_level(level)); }

void set_rank(int rank) { rank_shown = rank; }

void write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (!logger().should_log(spdlog_level(level))) {
    return;
  }
  std::string line(event);
  if (const int rank = rank_shown; rank >= 0) {
    line += fmt::format(" rank={}", rank);
  }
  for (const Field& field : fields) {
    line += fmt::format(" {}={}", field.key, shown(field.value));
  }
  logger().log(spdlog_level(level), "{}", line);
}

}  // namespace zoetrope::log
