#include "monitoring/check.h"

#include <cstdlib>

#include "monitoring/error.h"

namespace zoetrope {

void check_failed(std::string_view what, std::string_view values, const CodePlace& where) {
  print_failure(fmt::format("broken invariant: {}{}{} ({}:{} in {})", what, values.empty() ? "" : ": ", values,
                            where.file, where.line, where.function));
  std::abort();
}

}  // namespace zoetrope
