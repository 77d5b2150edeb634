#include "runtime/cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <utility>

namespace zoetrope {

bool standard_error_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

std::string human_seconds(double seconds) {
  if (seconds < 60) {
    return fmt::format("{:.1f} s", seconds);
  }
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  return whole < 3600 ? fmt::format("{} min {} s", whole / 60, whole % 60)
                      : fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

double answer_rate(std::int64_t tokens, double seconds) {
  return tokens > 1 && seconds > 0 ? static_cast<double>(tokens - 1) / seconds : 0.0;
}

std::string human_bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kUnits[unit]);
}

Progress::Progress(std::string title, std::string unit, bool shown)
    : title_(std::move(title)), unit_(std::move(unit)), shown_(shown), terminal_(standard_error_is_terminal()) {}

Progress::~Progress() { finish(); }

void Progress::update(double done, double total) {
  const auto now = Clock::now();
  const double pause = drawn_ || terminal_ ? (terminal_ ? 0.1 : 10.0) : 10.0;
  const auto since = drawn_ ? last_ : started_;
  if (!shown_ || std::chrono::duration<double>(now - since).count() < pause) {
    return;
  }
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const double rate = seconds > 0 ? done / seconds : 0;
  std::string line = fmt::format("{}: {:.0f} of {:.0f} {}, {:.3g} {}/s", title_, done, total, unit_, rate, unit_);
  if (rate > 0 && done < total) {
    line += fmt::format(", {} left", human_seconds((total - done) / rate));
  }
  std::fputs((terminal_ ? "\r\033[K" + line : line + "\n").c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::finish() {
  if (drawn_ && terminal_) {
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
  }
  drawn_ = false;
}

}  // namespace zoetrope
