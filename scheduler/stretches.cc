#include "scheduler/stretches.h"

#include <algorithm>
#include <cstdlib>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kSlackPart = 8;  // cuts move by at most this part of a run or a stretch

std::vector<std::int64_t> starts_of(std::span<const UnitSpan> units) {
  std::vector<std::int64_t> starts{0};
  for (const UnitSpan& unit : units) {
    starts.push_back(starts.back() + unit.tokens);
  }
  return starts;
}

}  // namespace

std::size_t cut_near(std::span<const UnitSpan> units, std::span<const std::int64_t> starts, std::int64_t ideal,
                     std::int64_t slack) {
  check_eq(starts.size(), units.size() + 1, "a start for every unit, and the end");
  std::size_t nearest = 0, clean = units.size() + 1;
  for (std::size_t i = 0; i <= units.size(); ++i) {
    const auto distance = [&](std::size_t at) { return std::abs(starts[at] - ideal); };
    if (distance(i) < distance(nearest)) {
      nearest = i;
    }
    if (i < units.size() && units[i].clean && distance(i) <= slack &&
        (clean > units.size() || distance(i) < distance(clean))) {
      clean = i;
    }
  }
  return clean <= units.size() ? clean : nearest;
}

std::size_t stretch_end(std::span<const UnitSpan> units, std::size_t first, const StretchLimit& limit) {
  check(first < units.size() && limit.tokens > 0 && limit.units > 0, "a stretch begins with a unit and has room");
  const std::size_t units_end = std::min(units.size(), first + static_cast<std::size_t>(limit.units));
  std::size_t end = first + 1;
  std::int64_t tokens = units[first].tokens;
  for (; end < units_end && tokens + units[end].tokens <= limit.tokens; ++end) {
    tokens += units[end].tokens;
  }
  if (end == units.size()) {
    return end;
  }
  std::int64_t given_up = 0;
  for (std::size_t at = end; at > first + 1 && given_up <= tokens / kSlackPart; --at) {
    if (units[at].clean) {
      return at;
    }
    given_up += units[at - 1].tokens;
  }
  return end;
}

std::vector<std::int32_t> dealt_ranks(std::span<const UnitSpan> units, int ranks) {
  check(ranks > 0, "units are dealt to ranks");
  std::vector<std::int32_t> dealt(units.size(), ranks - 1);
  const std::vector<std::int64_t> starts = starts_of(units);
  std::size_t first = 0;
  for (int rank = 0; rank + 1 < ranks; ++rank) {
    const std::int64_t ideal = starts.back() * (rank + 1) / ranks;
    const std::size_t end = std::max(first, cut_near(units, starts, ideal, starts.back() / ranks / kSlackPart));
    std::fill(dealt.begin() + static_cast<std::ptrdiff_t>(first), dealt.begin() + static_cast<std::ptrdiff_t>(end),
              rank);
    first = end;
  }
  return dealt;
}

}  // namespace zoetrope
