// Finds the first stop string in a growing text and holds back what could still become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace zoetrope {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // empty strings are left out

  // Text that is certainly before any stop string; nothing more after stopped().
  std::string add(std::string_view text);
  // The rest that was held back, at the end of the answer; empty after stopped().
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace zoetrope
