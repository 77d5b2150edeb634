// Stretches of film: how many units are decoded and encoded together, and which rank each is dealt to. Pure arithmetic
// on counts. Everything a stretch needs in memory is bounded by its tokens, whatever the length of the film.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/request.h"

namespace zoetrope {

// Where a cut that would ideally be at `ideal` tokens is made: before the unit whose start is nearest to it, or, when
// one within `slack` tokens starts clean, before the nearest of those. `starts` [n + 1] are the tokens before each unit
// and behind the last. Returns the index of the first unit behind the cut, in [0, n].
std::size_t cut_near(std::span<const UnitSpan> units, std::span<const std::int64_t> starts, std::int64_t ideal,
                     std::int64_t slack);

// What a stretch may hold: tokens, which bound its memory, and units, which bound the time until its prefill begins.
// Where a film starts clean so rarely that `units` of it have fewer than `runs` clean starts, it may hold up to
// `units_long` for their sake: decoders that share a run between two of them decode its beginning twice.
struct StretchLimit {
  std::int64_t tokens = 0, units = 0;
  std::int64_t runs = 0, units_long = 0;
};

inline constexpr std::int64_t kLongStretch = 8;  // times as many units at most

// The end of the stretch that begins with unit `first`: as many units as `limit` allows, at least one. When the film
// goes on behind it, it ends before a unit that starts clean if one is in its last eighth.
std::size_t stretch_end(std::span<const UnitSpan> units, std::size_t first, const StretchLimit& limit);

// The rank of each unit: contiguous runs of about equal numbers of tokens, cut before units that start clean where that
// moves a cut by at most an eighth of a run.
std::vector<std::int32_t> dealt_ranks(std::span<const UnitSpan> units, int ranks);

}  // namespace zoetrope
