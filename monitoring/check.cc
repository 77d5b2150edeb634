#include "monitoring/check.h"

#include <cstdio>
#include <cstdlib>

namespace zoetrope {

void check_failed(std::string_view what, std::string_view values, const std::source_location& where) {
  const std::string line = fmt::format("zoetrope: broken invariant: {}{}{} ({}:{} in {})\n", what,
                                       values.empty() ? "" : ": ", values, where.file_name(), where.line(),
                                       where.function_name());
  std::fputs(line.c_str(), stderr);
  std::abort();
}

}  // namespace zoetrope
