// How the ranks of a replica are arranged: world = ring x tp, tp fastest. Standard library only (the scheduler reads
// it).
#pragma once

#include <cstdint>
#include <string>

namespace zoetrope {

struct Layout {
  int ring = 1;  // members among which sequences (and later pages of one sequence) are dealt
  int tp = 1;    // ranks that cut heads, vocabulary and dense feed-forward of one member

  int ranks() const { return ring * tp; }
  bool operator==(const Layout&) const = default;
};

// Where a rank stands. rank = member * tp + tp_index.
struct Place {
  int rank = 0;
  int member = 0;    // index on the ring axis
  int tp_index = 0;  // index on the tp axis
};

Place place_of(const Layout& layout, int rank);
int rank_of(const Layout& layout, int member, int tp_index);

// "ring 2 x tp 1": for messages.
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
