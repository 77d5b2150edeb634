// Structured log on standard error: one line per event, `event key=value ...`, with the rank on every line under MPI.
// Nothing is logged from kernels or once per token. Thread-safe.
#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace zoetrope::log {

enum class Level { kDebug, kInfo, kWarning, kError };

struct Field {
  template <typename T>
  Field(std::string_view key_, const T& value_) : key(key_), value(fmt::format("{}", value_)) {}
  std::string_view key;
  std::string value;
};

// Lines below `level` are dropped. Default kWarning: a program that prints answers stays quiet.
void set_level(Level level);

// Rank shown on every line; -1 (the default) shows none.
void set_rank(int rank);

void write(Level level, std::string_view event, std::initializer_list<Field> fields = {});

inline void info(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kInfo, event, fields);
}
inline void warning(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kWarning, event, fields);
}
inline void error(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kError, event, fields);
}

}  // namespace zoetrope::log
