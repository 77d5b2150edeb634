#include "parallel/layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "monitoring/check.h"

namespace zoetrope {

Place place_of(const Layout& layout, int rank) {
  check(layout.pp > 0 && layout.ring > 0 && layout.tp > 0, "a layout has at least one rank on each axis");
  check(rank >= 0 && rank < layout.ranks(), "a rank lies in its layout");
  return {.rank = rank,
          .stage = rank / layout.stage_ranks(),
          .member = rank / layout.tp % layout.ring,
          .tp_index = rank % layout.tp};
}

int rank_of(const Layout& layout, int stage, int member, int tp_index) {
  check(stage >= 0 && stage < layout.pp, "a stage lies in the pipe");
  check(member >= 0 && member < layout.ring, "a member lies on the ring");
  check(tp_index >= 0 && tp_index < layout.tp, "a tp index lies in its member");
  return (stage * layout.ring + member) * layout.tp + tp_index;
}

std::string described(const Layout& layout) {
  return (layout.pp > 1 ? fmt::format("pp {} x ", layout.pp) : "") +
         fmt::format("ring {} x tp {}", layout.ring, layout.tp);
}

Range dealt(std::int64_t total, int index, int parts) {
  check(total >= 0 && parts > 0 && index >= 0 && index < parts, "things are dealt to existing parts");
  const std::int64_t each = total / parts;
  const std::int64_t rest = total % parts;  // the first `rest` parts get one more
  const std::int64_t first = index * each + std::min<std::int64_t>(index, rest);
  return {.first = first, .end = first + each + (index < rest ? 1 : 0)};
}

}  // namespace zoetrope
