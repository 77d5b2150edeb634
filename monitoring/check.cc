#include "monitoring/check.h"

#include <cstdio>
#include <cstdlib>

namespace zoetrope {

void check_failed(std::string_view what, std::string_view values, const CodePlace& where) {
  const std::string line = fmt::format("zoetrope: broken invariant: {}{}{} ({}:{} in {})\n", what,
                                       values.empty() ? "" : ": ", values, where.file, where.line, where.function);
  std::fputs(line.c_str(), stderr);
  std::abort();
}

}  // namespace zoetrope
