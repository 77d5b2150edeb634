#include "runtime/checkpoint/problems.h"

#include <fmt/format.h>

#include <utility>

namespace zoetrope {

void Problems::add(Complaint complaint) { lines_.emplace_back(Error(Radius::kStartup, complaint).what()); }

void Problems::throw_first() const {
  if (lines_.empty()) {
    return;
  }
  if (lines_.size() == 1) {
    throw Error(Radius::kStartup, lines_.front());
  }
  throw Error(Radius::kStartup, fmt::format("{} ({} more problem{}: `zoetrope inspect` lists all)", lines_.front(),
                                            lines_.size() - 1, lines_.size() == 2 ? "" : "s"));
}

}  // namespace zoetrope
