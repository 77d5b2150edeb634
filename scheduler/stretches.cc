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

namespace {

// As many units as fit, at least one, and their tokens.
std::size_t fitting_end(std::span<const UnitSpan> units, std::size_t first, std::int64_t tokens_max,
                        std::int64_t units_max, std::int64_t& tokens) {
  const std::size_t units_end = std::min(units.size(), first + static_cast<std::size_t>(units_max));
  std::size_t end = first + 1;
  tokens = units[first].tokens;
  for (; end < units_end && tokens + units[end].tokens <= tokens_max; ++end) {
    tokens += units[end].tokens;
  }
  return end;
}

}  // namespace

std::size_t stretch_end(std::span<const UnitSpan> units, std::size_t first, const StretchLimit& limit) {
  check(first < units.size() && limit.tokens > 0 && limit.units > 0, "a stretch begins with a unit and has room");
  std::int64_t tokens = 0, tokens_long = 0;
  const std::size_t end = fitting_end(units, first, limit.tokens, limit.units, tokens);
  if (end == units.size()) {
    return end;
  }
  const std::size_t end_long =
      fitting_end(units, first, limit.tokens, std::max(limit.units, limit.units_long), tokens_long);
  std::int64_t runs = 0;
  std::size_t last_clean = first;
  for (std::size_t at = first + 1; at <= end_long && at < units.size() && runs < limit.runs; ++at) {
    if (units[at].clean) {
      last_clean = at;
      ++runs;
    }
  }
  if (last_clean > end) {
    return last_clean;
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
