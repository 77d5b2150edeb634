#include "parallel/ring_cost.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/attention_walk.h"
#include "parallel/ring_partials.h"

namespace zoetrope {
namespace {

std::size_t at(int slot) { return static_cast<std::size_t>(slot); }

// The schedule of ring_attention.cc, turn by turn, with a clock for every member.
class Schedule {
 public:
  Schedule(const RingRates& rates, const RingStep& step)
      : rates_(rates),
        step_(step),
        members_(step.span.members),
        now_(at(members_), 0.0),
        pages_(div_ceil(end_token(), std::int64_t{kPageTokens})) {
    for (int slot = 0; slot < members_; ++slot) {
      rows_.push_back(step.span.rows_of(slot, step.first_token, end_token()));
      before_.push_back(step.span.rows_of(slot, 0, step.first_token));
    }
  }

  double by_pages() {
    if (step_.shared) {
      for (int slot = 0; slot < members_; ++slot) {
        now_[at(slot)] = attention(slot, 0, rows_[at(slot)], kEverybody);
      }
      return latest();
    }
    std::vector<double> arrives(at(members_), 0.0);
    for (int turn = 0; turn < members_; ++turn) {
      for (int slot = 0; slot < members_; ++slot) {
        now_[at(slot)] = std::max(now_[at(slot)], arrives[at(slot)]);
      }
      const std::vector<double> posted = now_;
      for (int slot = 0; slot < members_; ++slot) {
        const std::int64_t rows = rows_[at(slot)];
        now_[at(slot)] += attention(slot, 0, rows, slot ^ reversed_bits(turn, members_)) +
                          static_cast<double>(rows) * rates_.partial_seconds;
        if (turn + 1 == members_) {
          continue;
        }
        const int next = slot ^ reversed_bits(turn + 1, members_);
        const double comes = rows > 0 ? static_cast<double>(step_.span.pages_of(next, pages_) * step_.page_bytes) : 0.0;
        const double goes =
            rows_[at(next)] > 0 ? static_cast<double>(step_.span.pages_of(slot, pages_) * step_.page_bytes) : 0.0;
        now_[at(slot)] += carried(std::max(comes, goes));
        arrives[at(slot)] = std::max(posted[at(slot)], posted[at(next)]) + travel(std::max(comes, goes));
      }
    }
    return latest();
  }

  double by_queries() {
    std::vector<double> queries = visitors(0);
    const std::int64_t most = *std::max_element(rows_.begin(), rows_.end());
    for (std::int64_t first = 0; first < most; first += kRingRoundRows) {
      const std::vector<double> arrived = std::exchange(queries, visitors(first + kRingRoundRows));
      answer(first, arrived);
    }
    return latest();
  }

 private:
  static constexpr int kEverybody = -1;

  std::int64_t end_token() const { return step_.first_token + step_.tokens; }
  double latest() const { return *std::max_element(now_.begin(), now_.end()); }
  double travel(double bytes) const { return bytes > 0 ? rates_.message_seconds + bytes * rates_.byte_seconds : 0.0; }
  double carried(double bytes) const { return (1 - rates_.hidden) * bytes * rates_.byte_seconds; }
  std::int64_t rows_in(int slot, std::int64_t first) const {
    return std::clamp<std::int64_t>(rows_[at(slot)] - first, 0, kRingRoundRows);
  }
  bool has_pages(int slot) const { return step_.span.pages_of(slot, pages_) > 0; }

  // When the queries of the round that begins with row `first` have come to each member, sent now.
  std::vector<double> visitors(std::int64_t first) const {
    std::vector<double> arrive(at(members_), 0.0);
    for (int slot = 0; slot < members_; ++slot) {
      for (int other = 0; has_pages(slot) && other < members_; ++other) {
        if (other != slot) {
          arrive[at(slot)] =
              std::max(arrive[at(slot)],
                       now_[at(other)] +
                           travel(static_cast<double>((members_ - 1) * rows_in(other, first) * step_.query_bytes)));
        }
      }
    }
    return arrive;
  }

  // One round of ring attention by queries.
  void answer(std::int64_t first, const std::vector<double>& arrived) {
    std::vector<double> home(at(members_), 0.0);
    for (int turn = 0; turn < members_; ++turn) {
      const std::vector<double> before = home;
      for (int slot = 0; slot < members_; ++slot) {
        const int other = slot ^ reversed_bits(turn, members_);
        now_[at(slot)] = turn == 1 ? std::max(now_[at(slot)], arrived[at(slot)]) : now_[at(slot)];
        now_[at(slot)] += attention(other, first, rows_in(other, first), slot) +
                          static_cast<double>(rows_in(other, first)) * rates_.partial_seconds;
      }
      const std::vector<double> posted = now_;
      for (int slot = 0; turn > 0 && slot < members_; ++slot) {
        const int other = slot ^ reversed_bits(turn, members_);
        const auto bytes = has_pages(other) ? static_cast<double>(rows_in(slot, first) * step_.partial_bytes) : 0.0;
        now_[at(slot)] = std::max(now_[at(slot)] + carried(bytes), before[at(slot)]);
        if (bytes > 0) {
          home[at(slot)] = std::max(posted[at(slot)], posted[at(other)]) + travel(bytes);
        }
      }
    }
    for (int slot = 0; slot < members_; ++slot) {
      now_[at(slot)] = std::max(now_[at(slot)], home[at(slot)]);
    }
  }

  // Pages of `owner` (or of everybody) that the i-th row of a slot sees.
  double pages_seen(int slot, std::int64_t row, int owner) const {
    const std::int64_t all = before_[at(slot)] + row;
    const std::int64_t token = (all / Span::kRunRows * members_ + slot) * Span::kRunRows + all % Span::kRunRows;
    const std::int64_t seen = token / kPageTokens + 1;
    return static_cast<double>(owner == kEverybody ? seen : step_.span.pages_of(owner, seen));
  }

  // `rows` rows of a slot from `first`: positions of one tile share a page's fixed cost, and the pages seen grow
  // evenly.
  double attention(int slot, std::int64_t first, std::int64_t rows, int owner) const {
    if (rows == 0) {
      return 0;
    }
    const int group = step_.heads / step_.kv_heads;
    const std::int64_t tile = std::max(1, kTileRows / group);
    const double tiles = static_cast<double>(div_ceil(rows, tile));
    const double pages = (pages_seen(slot, std::min(first + tile, first + rows) - 1, owner) +
                          pages_seen(slot, first + rows - 1, owner)) /
                         2;
    return step_.kv_heads * pages *
           (tiles * rates_.page_seconds + static_cast<double>(rows * group) * rates_.row_seconds);
  }

  const RingRates& rates_;
  const RingStep& step_;
  int members_;
  std::vector<double> now_;
  std::int64_t pages_;
  std::vector<std::int64_t> rows_, before_;  // of the chunk, and of the tokens before it
};

}  // namespace

double seconds_by_pages(const RingRates& rates, const RingStep& step) { return Schedule(rates, step).by_pages(); }

double seconds_by_queries(const RingRates& rates, const RingStep& step) { return Schedule(rates, step).by_queries(); }

}  // namespace zoetrope
