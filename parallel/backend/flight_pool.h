// The exchanges of a communicator that are under way, in the order of posting, and those that can be used again.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace zoetrope {

template <typename Flight>
class FlightPool {
 public:
  // Another one under way, of `owner` (its communicator).
  template <typename Owner>
  Flight& begin(Owner& owner) {
    if (idle_.empty()) {
      idle_.push_back(std::make_unique<Flight>(owner));
    }
    under_way_.push_back(std::move(idle_.back()));
    idle_.pop_back();
    return *under_way_.back();
  }
  void end(const Flight* flight) {
    const auto own = std::find_if(under_way_.begin(), under_way_.end(),
                                  [flight](const auto& other) { return other.get() == flight; });
    idle_.push_back(std::move(*own));
    under_way_.erase(own);
  }
  const std::vector<std::unique_ptr<Flight>>& under_way() const { return under_way_; }

 private:
  std::vector<std::unique_ptr<Flight>> under_way_, idle_;
};

}  // namespace zoetrope
