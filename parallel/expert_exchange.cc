#include "parallel/expert_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "monitoring/error.h"
#include "parallel/bf16_wire.h"
#include "parallel/layout.h"

namespace zoetrope {
namespace {

constexpr std::size_t kExpertsMax = 65536;  // a local expert travels as 16 bits
constexpr std::int64_t kChosenMax = 255;    // the number of a token's experts on a rank as 8
constexpr std::int64_t kPairsMax = std::numeric_limits<std::int32_t>::max();

std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

std::span<std::byte> bytes_of(std::uint16_t* data, std::size_t bytes) {
  return {reinterpret_cast<std::byte*>(data), bytes};
}
std::span<std::byte> bytes_of(float* data, std::size_t count) { return std::as_writable_bytes(std::span(data, count)); }

std::size_t routing_bytes(std::uint32_t tokens, std::uint32_t pairs) { return std::size_t{2} * pairs + tokens; }

[[noreturn]] void refuse_routing(int from, int to, std::string found, std::string expected) {
  refuse(Radius::kCluster,
         {fmt::format("routing list from rank {} to rank {}", from, to), std::move(found), std::move(expected),
          "the ranks disagree about where experts live; start the job again and report this"});
}

}  // namespace

ExpertTable ExpertTable::contiguous(int experts, int ranks) {
  if (ranks <= 0 || experts < ranks) {
    refuse(Radius::kStartup, {"experts over ranks", fmt::format("{} experts for {} ranks", experts, ranks),
                              "at least one expert for every rank", fmt::format("start at most {} ranks", experts)});
  }
  ExpertTable table;
  for (int rank = 0; rank < ranks; ++rank) {
    table.rank_of.insert(table.rank_of.end(), size_of(dealt(experts, rank, ranks).count()), rank);
  }
  return table;
}

std::vector<int> ExpertTable::experts_of(int rank) const {
  std::vector<int> experts;
  for (std::size_t e = 0; e < rank_of.size(); ++e) {
    if (rank_of[e] == rank) {
      experts.push_back(static_cast<int>(e));
    }
  }
  return experts;
}

ExpertExchange::ExpertExchange(Communicator& comm, ExpertTable table, std::int64_t hidden, Precision precision)
    : comm_(comm), table_(std::move(table)), hidden_(hidden), precision_(precision) {
  check(hidden_ > 0, "tokens have a width");
  check(!table_.rank_of.empty() && table_.rank_of.size() <= kExpertsMax, "there are 1 to 65536 experts");
  std::vector<std::size_t> next(size_of(ranks()), 0);
  for (const int rank : table_.rank_of) {
    check(rank >= 0 && rank < ranks(), "an expert lives on a rank");
    local_.push_back(static_cast<std::uint16_t>(next[size_of(rank)]++));
  }
  own_experts_ = next[size_of(comm_.rank())];
  out_.resize(size_of(ranks()));
  in_.resize(size_of(ranks()));
  counts_.resize(size_of(ranks()));
  home_first_.resize(size_of(ranks()));
  filled_.resize(size_of(ranks()));
  arrived_.rows.resize(own_experts_);
  arrived_.first.resize(own_experts_);
  arrived_.outputs_by_rank.resize(size_of(ranks()));
}

// How many tokens and pairs go to each rank, and where its outputs will lie at home.
void ExpertExchange::count(Rows<const std::int32_t> experts) {
  for (Leg& leg : out_) {
    leg.counts = {};
  }
  std::fill(filled_.begin(), filled_.end(), -1);  // here: the last token that was counted for a rank
  for (std::int64_t t = 0; t < experts.rows; ++t) {
    const std::int32_t* const chosen = experts.row(t);
    for (std::int64_t j = 0; j < experts.columns; ++j) {
      check(chosen[j] >= 0 && size_of(chosen[j]) < table_.rank_of.size(), "a chosen expert exists");
      check(std::find(chosen, chosen + j, chosen[j]) == chosen + j, "a token's experts are distinct");
      const auto rank = size_of(table_.rank_of[size_of(chosen[j])]);
      out_[rank].counts.pairs += 1;
      out_[rank].counts.tokens += filled_[rank] == t ? 0 : 1;
      filled_[rank] = t;
    }
  }
  std::int64_t first = 0;
  for (std::size_t r = 0; r < out_.size(); ++r) {
    home_first_[r] = first;
    first += out_[r].counts.pairs;
  }
}

// Packs routing lists and rows. A leg's list: for its tokens in order, the local experts; then how many each token has.
void ExpertExchange::deal(Rows<const float> x, Rows<const std::int32_t> experts) {
  const auto own = size_of(comm_.rank());
  for (std::size_t r = 0; r < out_.size(); ++r) {
    const Counts counts = out_[r].counts;
    out_[r].routing.at_least((routing_bytes(counts.tokens, counts.pairs) + 1) / 2);
    out_[r].rows.at_least(r == own ? 0 : counts.tokens * row_bytes());
    out_[r].counts = {};  // grows back below
    counts_[r] = counts;
  }
  std::int32_t* slot = slots_.at_least(size_of(tokens_ * k_));
  std::fill(filled_.begin(), filled_.end(), -1);
  own_tokens_.clear();
  for (std::int64_t t = 0; t < tokens_; ++t) {
    for (std::int64_t j = 0; j < k_; ++j) {
      const auto expert = size_of(experts.row(t)[j]);
      const auto r = size_of(table_.rank_of[expert]);
      Leg& leg = out_[r];
      std::uint16_t* const list = leg.routing.at_least(0);
      auto* const per_token = reinterpret_cast<std::uint8_t*>(list + counts_[r].pairs);
      if (filled_[r] != t) {
        filled_[r] = t;
        per_token[leg.counts.tokens] = 0;
        if (r == own) {
          own_tokens_.push_back(static_cast<std::int32_t>(t));
        } else {
          to_wire(x.row(t), hidden_, narrow(), leg.rows.at_least(0) + leg.counts.tokens * row_bytes());
        }
        leg.counts.tokens += 1;
      }
      per_token[leg.counts.tokens - 1] += 1;
      list[leg.counts.pairs] = local_[expert];
      *slot++ = static_cast<std::int32_t>(home_first_[r] + leg.counts.pairs);
      leg.counts.pairs += 1;
    }
  }
}

void ExpertExchange::swap_counts() {
  sends_.clear();
  receives_.clear();
  for (int r = 0; r < ranks(); ++r) {
    if (r != comm_.rank()) {
      sends_.push_back({r, std::as_bytes(std::span(&out_[size_of(r)].counts, 1))});
      receives_.push_back({r, std::as_writable_bytes(std::span(&counts_[size_of(r)], 1))});
    }
  }
  counts_[size_of(comm_.rank())] = out_[size_of(comm_.rank())].counts;
  comm_.exchange(sends_, receives_, "expert dispatch: counts");
}

// Rows arrive where they are used in fp32 mode, and in their leg to be widened in bf16 mode.
void ExpertExchange::swap_tokens() {
  std::uint64_t rows = 0;
  std::uint64_t pairs = 0;
  for (int r = 0; r < ranks(); ++r) {
    const Counts counts = counts_[size_of(r)];
    if (counts.pairs < counts.tokens || counts.pairs > kChosenMax * std::uint64_t{counts.tokens}) {
      refuse_routing(r, comm_.rank(), fmt::format("{} pairs of {} tokens", counts.pairs, counts.tokens),
                     "1 to 255 experts a token");
    }
    rows += counts.tokens;
    pairs += counts.pairs;
  }
  if (pairs > kPairsMax) {
    refuse_routing(comm_.rank(), comm_.rank(), fmt::format("{} pairs", pairs),
                   fmt::format("at most {} in one step", kPairsMax));
  }
  float* x = x_.at_least(rows * size_of(hidden_));
  sends_.clear();
  receives_.clear();
  for (int r = 0; r < ranks(); ++r) {
    const Counts counts = counts_[size_of(r)];
    if (r != comm_.rank()) {
      Leg& out = out_[size_of(r)];
      Leg& in = in_[size_of(r)];
      in.counts = counts;
      const std::size_t list_bytes = routing_bytes(counts.tokens, counts.pairs);
      const std::size_t in_bytes = counts.tokens * row_bytes();
      sends_.push_back({r, bytes_of(out.routing.at_least(0), routing_bytes(out.counts.tokens, out.counts.pairs))});
      sends_.push_back({r, {out.rows.at_least(0), out.counts.tokens * row_bytes()}});
      receives_.push_back({r, bytes_of(in.routing.at_least((list_bytes + 1) / 2), list_bytes)});
      receives_.push_back({r, narrow() ? std::span(in.rows.at_least(in_bytes), in_bytes)
                                       : bytes_of(x, counts.tokens * size_of(hidden_))});
    }
    x += counts.tokens * size_of(hidden_);
  }
  comm_.exchange(sends_, receives_, "expert dispatch: tokens");
  arrived_.x = Rows<const float>(x_.at_least(0), static_cast<std::int64_t>(rows), hidden_);
}

// Notes for which experts rank `from`'s tokens came, in order of its list.
void ExpertExchange::take_routing(int from, std::int64_t first_row) {
  Leg& leg = from == comm_.rank() ? out_[size_of(from)] : in_[size_of(from)];
  const std::uint16_t* list = leg.routing.at_least(0);
  const auto* const per_token = reinterpret_cast<const std::uint8_t*>(list + leg.counts.pairs);
  std::uint64_t listed = 0;
  for (std::uint32_t i = 0; i < leg.counts.tokens; ++i) {
    listed += per_token[i];
  }
  if (listed != leg.counts.pairs) {
    refuse_routing(from, comm_.rank(), fmt::format("{} experts listed", listed),
                   fmt::format("{} pairs", leg.counts.pairs));
  }
  for (std::uint32_t i = 0; i < leg.counts.tokens; ++i) {
    for (int j = 0; j < per_token[i]; ++j, ++list) {
      if (*list >= own_experts_) {
        refuse_routing(from, comm_.rank(), fmt::format("local expert {}", *list),
                       fmt::format("below {}", own_experts_));
      }
      auto& rows = arrived_.rows[*list];
      pairs_.emplace_back(*list, static_cast<std::int32_t>(rows.size()));
      rows.push_back(static_cast<std::int32_t>(first_row + i));
    }
  }
}

void ExpertExchange::unpack(Rows<const float> x) {
  for (auto& rows : arrived_.rows) {
    rows.clear();
  }
  pairs_.clear();
  std::int64_t row = 0;
  for (int r = 0; r < ranks(); ++r) {
    float* const to = x_.at_least(0) + row * hidden_;
    const std::int64_t count = counts_[size_of(r)].tokens;
    if (r == comm_.rank()) {
      for (std::int64_t i = 0; i < count; ++i) {
        std::copy_n(x.row(own_tokens_[size_of(i)]), hidden_, to + i * hidden_);
      }
    } else if (narrow()) {
      from_wire(in_[size_of(r)].rows.at_least(0), count * hidden_, true, to);
    }
    take_routing(r, row);
    arrived_.outputs_by_rank[size_of(r)] = counts_[size_of(r)].pairs;
    row += count;
  }
  arrived_.outputs = 0;
  for (std::size_t e = 0; e < own_experts_; ++e) {
    arrived_.first[e] = arrived_.outputs;
    arrived_.outputs += static_cast<std::int64_t>(arrived_.rows[e].size());
  }
}

const ExpertExchange::Arrived& ExpertExchange::dispatch(Rows<const float> x, Rows<const std::int32_t> experts) {
  check_eq(x.rows, experts.rows, "every token has chosen experts");
  check(x.rows == 0 || x.columns == hidden_, "tokens have the exchange's width");
  check(experts.columns >= 0 && experts.columns <= kChosenMax, "a token chooses at most 255 experts");
  check(x.rows <= kPairsMax / std::max<std::int64_t>(experts.columns, 1), "a step's pairs fit 31 bits");
  tokens_ = x.rows;
  k_ = experts.columns;
  count(experts);
  deal(x, experts);
  swap_counts();
  swap_tokens();
  unpack(x);
  return arrived_;
}

ExpertExchange::Home ExpertExchange::combine(Rows<const float> outputs) {
  check_eq(outputs.rows, arrived_.outputs, "experts answer every pair");
  check(outputs.rows == 0 || outputs.columns == hidden_, "outputs have the exchange's width");
  float* const home = home_.at_least(size_of(tokens_ * k_ * hidden_));
  sends_.clear();
  receives_.clear();
  const std::pair<std::int32_t, std::int32_t>* pair = pairs_.data();
  for (int r = 0; r < ranks(); ++r) {
    const auto count = size_of(arrived_.outputs_by_rank[size_of(r)]);
    float* const mine = home + home_first_[size_of(r)] * hidden_;
    std::byte* wire = r == comm_.rank() ? nullptr : in_[size_of(r)].rows.at_least(count * row_bytes());
    for (std::size_t p = 0; p < count; ++p, ++pair) {
      const float* const output = outputs.row(arrived_.first[size_of(pair->first)] + pair->second);
      if (r == comm_.rank()) {
        std::copy_n(output, hidden_, mine + p * size_of(hidden_));
      } else {
        to_wire(output, hidden_, narrow(), wire + p * row_bytes());
      }
    }
    if (r != comm_.rank()) {
      const std::size_t pairs = out_[size_of(r)].counts.pairs;
      sends_.push_back({r, {wire, count * row_bytes()}});
      receives_.push_back({r, narrow()
                                  ? std::span(out_[size_of(r)].rows.at_least(pairs * row_bytes()), pairs * row_bytes())
                                  : bytes_of(mine, pairs * size_of(hidden_))});
    }
  }
  comm_.exchange(sends_, receives_, "expert combine");
  for (int r = 0; r < ranks() && narrow(); ++r) {
    if (r != comm_.rank()) {
      from_wire(out_[size_of(r)].rows.at_least(0), out_[size_of(r)].counts.pairs * hidden_, true,
                home + home_first_[size_of(r)] * hidden_);
    }
  }
  return {.outputs = Rows<const float>(home, tokens_ * k_, hidden_),
          .slots = Rows<const std::int32_t>(slots_.at_least(0), tokens_, k_)};
}

ExpertExchange::ClosedForm ExpertExchange::closed_form(Rows<const std::int32_t> experts,
                                                       std::span<const std::int64_t> arrived_outputs_by_rank) const {
  check_eq(arrived_outputs_by_rank.size(), size_of(ranks()), "every rank gets outputs back");
  ClosedForm form;
  for (int r = 0; r < ranks(); ++r) {
    if (r == comm_.rank()) {
      continue;
    }
    form.dispatch_headers += sizeof(Counts);
    form.combine_payload += static_cast<std::uint64_t>(arrived_outputs_by_rank[size_of(r)]) * row_bytes();
    for (std::int64_t t = 0; t < experts.rows; ++t) {
      const std::int32_t* const chosen = experts.row(t);
      const auto pairs = std::count_if(chosen, chosen + experts.columns,
                                       [&](std::int32_t e) { return table_.rank_of[size_of(e)] == r; });
      form.dispatch_payload += pairs > 0 ? row_bytes() : 0;
      form.dispatch_headers += pairs > 0 ? 1 + 2 * static_cast<std::uint64_t>(pairs) : 0;
    }
  }
  return form;
}

}  // namespace zoetrope
