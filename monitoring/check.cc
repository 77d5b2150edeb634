#include "monitoring/check.h"

#include <atomic>
#include <cstdlib>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

std::atomic<void (*)() noexcept> hook_of_failure{nullptr};

}  // namespace

void set_check_failed_hook(void (*hook)() noexcept) { hook_of_failure = hook; }

void check_failed(std::string_view what, std::string_view values, const CodePlace& where) {
  print_failure(fmt::format("broken invariant: {}{}{} ({}:{} in {})", what, values.empty() ? "" : ": ", values,
                            where.file, where.line, where.function));
  if (const auto hook = hook_of_failure.load(); hook != nullptr) {
    hook();
  }
  std::abort();
}

}  // namespace zoetrope
