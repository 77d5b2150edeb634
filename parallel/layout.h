// How the ranks of a replica are arranged: world = pp x ring x tp, tp fastest. Standard library only (the scheduler
// reads it).
#pragma once

#include <cstdint>
#include <string>

namespace zoetrope {

struct Layout {
  int ring = 1;  // members among which sequences (and later pages of one sequence) are dealt
  int tp = 1;    // ranks that cut heads, vocabulary and dense feed-forward of one member
  int pp = 1;    // stages among which the layers are cut; each has a ring of its own

  int stage_ranks() const { return ring * tp; }
  int ranks() const { return pp * stage_ranks(); }
  bool operator==(const Layout&) const = default;
};

// Where a rank stands. rank = (stage * ring + member) * tp + tp_index.
struct Place {
  int rank = 0;
  int stage = 0;     // index on the pp axis
  int member = 0;    // index on the ring axis
  int tp_index = 0;  // index on the tp axis
};

Place place_of(const Layout& layout, int rank);
int rank_of(const Layout& layout, int stage, int member, int tp_index);

// "ring 2 x tp 1", with "pp 2 x" in front where there are stages: for messages.
std::string described(const Layout& layout);

// Half-open range of indices.
struct Range {
  std::int64_t first = 0;
  std::int64_t end = 0;
  std::int64_t count() const { return end - first; }
  bool operator==(const Range&) const = default;
};

// The contiguous part of `total` things that part `index` of `parts` gets; sizes differ by at most one.
Range dealt(std::int64_t total, int index, int parts);

}  // namespace zoetrope
