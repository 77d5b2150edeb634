// Broken invariants: a bug of ours, never of a user's input. Prints the values with file and line, then aborts.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace zoetrope {

// Where a check stands. Not std::source_location, which clang 14, the compiler of the fuzz targets, does not have.
struct CodePlace {
  const char* file;
  int line;
  const char* function;
  static constexpr CodePlace caller(const char* file = __builtin_FILE(), int line = __builtin_LINE(),
                                    const char* function = __builtin_FUNCTION()) {
    return {file, line, function};
  }
};

// Called between the line that a broken invariant prints and the abort, for whoever would tell of that crash once more.
void set_check_failed_hook(void (*hook)() noexcept);

[[noreturn]] void check_failed(std::string_view what, std::string_view values, const CodePlace& where);

inline void check(bool holds, std::string_view what, const CodePlace& where = CodePlace::caller()) {
  if (!holds) [[unlikely]] {
    check_failed(what, "", where);
  }
}

template <typename A, typename B>
void check_eq(const A& a, const B& b, std::string_view what, const CodePlace& where = CodePlace::caller()) {
  if (!(a == b)) [[unlikely]] {
    check_failed(what, fmt::format("{} against {}", a, b), where);
  }
}

// Division that must leave no rest; counts of heads, experts and slices are divided by nothing else.
template <typename T>
T div_exact(T a, T b, const CodePlace& where = CodePlace::caller()) {
  check(b != 0 && a % b == 0, "division leaves a rest", where);
  return a / b;
}

template <typename T>
constexpr T div_ceil(T a, T b) {
  return (a + b - 1) / b;
}

template <typename T>
constexpr T round_up(T a, T multiple) {
  return div_ceil(a, multiple) * multiple;
}

}  // namespace zoetrope
