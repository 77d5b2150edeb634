#include "runtime/engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace zoetrope {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopMatcher::add(std::string_view text) {
  if (stopped_) {
    return "";
  }
  held_ += text;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    first = std::min(first, held_.find(stop));
  }
  if (first != std::string::npos) {
    stopped_ = true;
    held_.resize(first);
    return std::exchange(held_, {});
  }
  // The longest end of the text that begins a stop string stays; it is shorter than the longest stop string.
  std::size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t length = std::min(held_.size(), stop.size() - 1); length > keep; --length) {
      if (std::string_view(held_).substr(held_.size() - length) == std::string_view(stop).substr(0, length)) {
        keep = length;
      }
    }
  }
  std::string sure = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return sure;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

}  // namespace zoetrope
