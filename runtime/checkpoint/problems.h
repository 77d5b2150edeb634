// Everything that is wrong with a checkpoint, in the order in which it was found. Start-up throws the first and says
// how many follow; `zoetrope inspect` prints them all.
#pragma once

#include <string>
#include <vector>

#include "monitoring/error.h"

namespace zoetrope {

class Problems {
 public:
  void add(Complaint complaint);
  void add(const Error& error) { lines_.emplace_back(error.what()); }

  bool empty() const { return lines_.empty(); }
  const std::vector<std::string>& lines() const { return lines_; }  // "<what>: found ..., expected ...; <remedy>"

  // Error(kStartup) with the first problem when there is one.
  void throw_first() const;

 private:
  std::vector<std::string> lines_;
};

}  // namespace zoetrope
