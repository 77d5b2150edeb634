#include "scheduler/waves.h"

#include <algorithm>
#include <cmath>

#include "monitoring/check.h"

namespace zoetrope {

double rows_cost(const WaveCost& cost, std::int64_t first, std::int64_t rows) {
  const auto n = static_cast<double>(rows);
  return n * (1 + cost.context * (static_cast<double>(first) + (n + 1) / 2));
}

std::vector<std::int64_t> equal_chunks(const WaveCost& cost, std::int64_t first, std::int64_t tokens, int parts) {
  check(first >= 0 && tokens >= 0 && parts > 0, "tokens are cut in parts");
  // The first n rows cost n (a + c n): solved for n at every part's share of the whole.
  const double c = cost.context / 2;
  const double a = 1 + cost.context * (static_cast<double>(first) + 0.5);
  const double whole = rows_cost(cost, first, tokens);
  const auto count = static_cast<int>(std::min<std::int64_t>(parts, tokens));
  std::vector<std::int64_t> chunks;
  std::int64_t before = 0;
  for (int part = 1; part <= count; ++part) {
    const double share = whole * part / count;
    // 2 s / (a + sqrt(a^2 + 4 c s)): the root that also holds for c = 0.
    const double n = 2 * share / (a + std::sqrt(a * a + 4 * c * share));
    const std::int64_t end =
        part == count ? tokens : std::clamp(std::llround(n) + 0LL, before + 1LL, tokens - (count - part) + 0LL);
    chunks.push_back(end - before);
    before = end;
  }
  return chunks;
}

int best_waves(const WaveCost& cost, double work, int stages, int most) {
  check(work >= 0 && stages > 0 && most > 0, "a step has work for stages");
  const auto time = [&](int waves) { return (waves + stages - 1) * (cost.fixed + work / waves); };
  int best = 1;
  for (int waves = 2; waves <= most; ++waves) {
    if (time(waves) < time(best)) {
      best = waves;
    }
  }
  return best;
}

}  // namespace zoetrope
