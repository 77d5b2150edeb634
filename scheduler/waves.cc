#include "scheduler/waves.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kPageTokens = 256;
// Fewer rows of one sequence are not cut: they would visit their pages more often than they fill a tile of queries.
constexpr std::int64_t kRowsOfPiece = 32;

// What every member has to do in every wave.
class Loads {
 public:
  Loads(int waves, int ring, const WaveCost& cost)
      : ring_(ring), cost_(cost), loads_(static_cast<std::size_t>(waves * ring)) {}

  // Of the members of the span, the one that has most to do.
  double of(const Span& span, int wave) const {
    double most = 0;
    for (int slot = 0; slot < span.members; ++slot) {
      most = std::max(most, loads_[at(wave, span.member_at(slot))]);
    }
    return most;
  }
  void add(const Span& span, int wave, std::int64_t first, std::int64_t tokens) {
    for (int slot = 0; slot < span.members; ++slot) {
      loads_[at(wave, span.member_at(slot))] += rows_cost(cost_, first, tokens) / span.members;
    }
  }
  double most(int wave) const {
    const auto first = loads_.begin() + static_cast<std::ptrdiff_t>(at(wave, 0));
    return *std::max_element(first, first + ring_);
  }

 private:
  std::size_t at(int wave, int member) const { return static_cast<std::size_t>(wave * ring_ + member); }

  int ring_;
  WaveCost cost_;
  std::vector<double> loads_;
};

// The `count` waves in which a span has least to do, ascending.
std::vector<int> idlest(const Loads& loads, const Span& span, int waves, int count) {
  std::vector<int> order(static_cast<std::size_t>(waves));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return loads.of(span, a) < loads.of(span, b); });
  order.resize(static_cast<std::size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

// The first `tokens` of a chunk with the pages and samples that belong to them; the chunk keeps the rest.
Chunk taken_from(Chunk& chunk, std::int64_t tokens) {
  Chunk piece;
  piece.id = chunk.id;
  piece.first_token = chunk.first_token;
  piece.tokens = tokens;
  const std::int64_t end = piece.first_token + tokens;
  // Pages that the sequence has before this chunk: all that the chunk needs but those that are new.
  const std::int64_t had =
      div_ceil(chunk.first_token + chunk.tokens, kPageTokens) - static_cast<std::int64_t>(chunk.new_pages.size());
  const auto pages = static_cast<std::ptrdiff_t>(std::max<std::int64_t>(0, div_ceil(end, kPageTokens) - had));
  piece.new_pages.assign(chunk.new_pages.begin(), chunk.new_pages.begin() + pages);
  chunk.new_pages.erase(chunk.new_pages.begin(), chunk.new_pages.begin() + pages);
  const auto later = std::partition_point(chunk.sampled.begin(), chunk.sampled.end(),
                                          [end](std::int64_t index) { return index < end; });
  piece.sampled.assign(chunk.sampled.begin(), later);
  chunk.sampled.erase(chunk.sampled.begin(), later);
  chunk.first_token = end;
  chunk.tokens -= tokens;
  return piece;
}

int waves_of(const std::vector<Chunk>& chunks, const Pipeline& pipeline, int ring,
             const std::function<const Span&(RequestId)>& span_of) {
  Loads work(1, ring, pipeline.cost), rows(1, ring, {});
  for (const Chunk& chunk : chunks) {
    work.add(span_of(chunk.id), 0, chunk.first_token, chunk.tokens);
    rows.add(span_of(chunk.id), 0, 0, chunk.tokens);
  }
  const int least = static_cast<int>(std::ceil(rows.most(0) / static_cast<double>(pipeline.rows_max)));
  return std::clamp(best_waves(pipeline.cost, work.most(0), pipeline.stages, pipeline.waves_max),
                    std::min(least, pipeline.waves_max), pipeline.waves_max);
}

}  // namespace

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

std::int64_t rows_within(const WaveCost& cost, std::int64_t first, double budget) {
  const double c = cost.context / 2;
  const double a = 1 + cost.context * (static_cast<double>(first) + 0.5);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(2 * budget / (a + std::sqrt(a * a + 4 * c * budget))));
}

std::vector<Chunk> cut_in_waves(std::vector<Chunk> chunks, const Pipeline& pipeline, int ring,
                                const std::function<const Span&(RequestId)>& span_of) {
  check(pipeline.stages > 0 && pipeline.waves_max > 0 && pipeline.rows_max > 0, "a pipeline has stages and waves");
  const int waves = waves_of(chunks, pipeline, ring, span_of);
  // Those that cost most first: what is small fills what they leave uneven.
  std::vector<std::size_t> order(chunks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return rows_cost(pipeline.cost, chunks[a].first_token, chunks[a].tokens) >
           rows_cost(pipeline.cost, chunks[b].first_token, chunks[b].tokens);
  });
  Loads loads(waves, ring, pipeline.cost);
  std::vector<std::vector<Chunk>> pieces(chunks.size());
  for (const std::size_t at : order) {
    Chunk& chunk = chunks[at];
    const Span& span = span_of(chunk.id);
    const auto parts = chunk.drawn_tokens.empty()
                           ? static_cast<int>(std::clamp<std::int64_t>(chunk.tokens / kRowsOfPiece, 1, waves))
                           : 1;
    const std::vector<int> chosen = idlest(loads, span, waves, parts);
    const std::vector<std::int64_t> rows = equal_chunks(pipeline.cost, chunk.first_token, chunk.tokens, parts);
    for (std::size_t part = 0; part < rows.size(); ++part) {
      loads.add(span, chosen[part], chunk.first_token, rows[part]);
      Chunk piece = part + 1 < rows.size() ? taken_from(chunk, rows[part]) : std::move(chunk);
      piece.wave = chosen[part];
      pieces[at].push_back(std::move(piece));
    }
  }
  std::vector<Chunk> cut;
  for (auto& of_one : pieces) {
    std::move(of_one.begin(), of_one.end(), std::back_inserter(cut));
  }
  std::stable_sort(cut.begin(), cut.end(), [](const Chunk& a, const Chunk& b) { return a.wave < b.wave; });
  int last = -1, number = -1;  // waves that nobody chose are left out
  for (Chunk& chunk : cut) {
    number += chunk.wave != last ? 1 : 0;
    last = std::exchange(chunk.wave, number);
  }
  return cut;
}

}  // namespace zoetrope
