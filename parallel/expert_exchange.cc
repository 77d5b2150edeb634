#include "parallel/expert_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/row_pieces.h"
#include "monitoring/error.h"
#include "parallel/bf16_wire.h"

namespace zoetrope {
namespace {

constexpr int kExpertsMax = 65536;  // a local index travels as at most 16 bits
constexpr int kRanksMax = 65536;
constexpr std::int64_t kChosenMax = 255;  // the number of a token's experts on a rank as 8
constexpr std::int64_t kPairsMax = std::numeric_limits<std::int32_t>::max();

std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

std::span<std::byte> bytes_of(float* data, std::size_t count) { return std::as_writable_bytes(std::span(data, count)); }

[[noreturn]] void refuse_routing(int from, int to, std::string found, std::string expected) {
  refuse(Radius::kCluster,
         {fmt::format("routing list from rank {} to rank {}", from, to), std::move(found), std::move(expected),
          "the ranks disagree about where experts live; start the job again and report this"});
}

}  // namespace

ExpertExchange::ExpertExchange(Communicator& comm, const Compute& compute, std::int64_t hidden,
                               ExpertPlacement placement)
    : comm_(comm), compute_(compute), hidden_(hidden), placement_(std::move(placement)) {
  check(hidden_ > 0, "tokens have a width");
  check(ranks() <= kRanksMax, "there are at most 65536 ranks");
  check(!placement_.tables.empty(), "experts are placed");
  std::size_t most = 0;
  for (const ExpertTable& placed : placement_.tables) {
    check(placed.experts() > 0 && placed.experts() <= kExpertsMax, "there are 1 to 65536 experts");
    Table& table = tables_.emplace_back();
    std::vector<std::vector<std::uint16_t>> local(size_of(ranks()));  // index of each expert at each rank
    for (int rank = 0; rank < ranks(); ++rank) {
      std::uint16_t next = 0;
      auto& index = local[size_of(rank)];
      index.resize(size_of(placed.experts()));
      const std::vector<int> experts = placed.experts_of(rank);
      for (const int e : experts) {
        index[size_of(e)] = next++;
      }
      table.index_bytes = experts.size() > 256 ? 2 : table.index_bytes;
      table.own_experts = rank == comm_.rank() ? experts.size() : table.own_experts;
    }
    for (int e = 0; e < placed.experts(); ++e) {
      const int rank = placed.serving(e, comm_.rank());
      check(rank >= 0 && rank < ranks(), "an expert lives on a rank");
      table.routes.push_back({static_cast<std::uint16_t>(rank), local[size_of(rank)][size_of(e)]});
    }
    most = std::max(most, table.own_experts);
  }
  out_.resize(size_of(ranks()));
  in_.resize(size_of(ranks()));
  counts_.resize(size_of(ranks()));
  last_token_.resize(size_of(ranks()));
  count_at_.resize(size_of(ranks()));
  local_rows_.resize(most);
  local_first_.resize(most);
  arrived_.outputs_by_rank.resize(size_of(ranks()));
}

Rows<float> ExpertExchange::own_rows(std::int64_t tokens) {
  check(tokens >= 0, "tokens are counted");
  tokens_ = tokens;
  return {x_.at_least(size_of(tokens * hidden_)), tokens, hidden_};
}

Rows<float> ExpertExchange::outputs() {
  return {home_.at_least(size_of((arrived_.outputs + away_) * hidden_)), arrived_.outputs, hidden_};
}

// One pair more on the list of a leg. A token's pairs with one rank follow each other on its list.
void ExpertExchange::note(Leg& leg, std::int64_t token, std::int64_t& last_token, std::size_t& count_at,
                          std::uint16_t local) {
  std::byte* const list = leg.list.at_least(leg.list_bytes + 1 + table_->index_bytes, leg.list_bytes);
  if (last_token != token) {
    last_token = token;
    count_at = leg.list_bytes++;
    list[count_at] = std::byte{0};
    leg.counts.tokens += 1;
    leg.tokens.push_back(static_cast<std::int32_t>(token));
  }
  list[count_at] = static_cast<std::byte>(std::to_integer<int>(list[count_at]) + 1);
  std::memcpy(list + leg.list_bytes, &local, table_->index_bytes);  // little endian: the low byte is first
  leg.list_bytes += table_->index_bytes;
  leg.counts.pairs += 1;
}

// Lists for every rank, and for every pair of an own token its place among the outputs of its rank (own pairs: -1).
void ExpertExchange::deal(Rows<const std::int32_t> experts) {
  for (Leg& leg : out_) {
    leg.counts = {};
    leg.list_bytes = 0;
    leg.tokens.clear();
  }
  std::ranges::fill(last_token_, -1);
  std::int32_t* const slots = slots_.at_least(size_of(tokens_ * k_));
  for (std::int64_t t = 0; t < tokens_; ++t) {
    const std::int32_t* const chosen = experts.row(t);
    for (std::int64_t j = 0; j < k_; ++j) {
      check(chosen[j] >= 0 && size_of(chosen[j]) < table_->routes.size(), "a chosen expert exists");
      check(std::find(chosen, chosen + j, chosen[j]) == chosen + j, "a token's experts are distinct");
      const Route route = table_->routes[size_of(chosen[j])];
      Leg& leg = out_[route.rank];
      slots[t * k_ + j] = route.rank == own() ? -1 : static_cast<std::int32_t>(leg.counts.pairs);
      note(leg, t, last_token_[route.rank], count_at_[route.rank], route.local);
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
  counts_[own()] = out_[own()].counts;
  comm_.exchange(sends_, receives_, "expert dispatch: counts");
}

// Copies of rows to the wire, dealt over threads.
void ExpertExchange::pack(bool narrow) {
  over_rows(compute_, static_cast<std::int64_t>(copies_.size()), hidden_, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) {
      to_wire(copies_[size_of(i)].from, hidden_, narrow, copies_[size_of(i)].to);
    }
  });
}

void ExpertExchange::widen(const std::byte* wire, std::int64_t rows, float* to) {
  over_rows(compute_, rows, hidden_, [&](std::int64_t first, std::int64_t end) {
    from_wire(wire + size_of(first) * row_bytes(true), (end - first) * hidden_, true, to + first * hidden_);
  });
}

// Rows arrive behind the own ones in fp32 mode, and on the wire to be widened in bf16 mode.
void ExpertExchange::swap_tokens() {
  std::uint64_t rows = 0;
  std::uint64_t pairs = 0;
  std::uint64_t leaving = 0;
  for (int r = 0; r < ranks(); ++r) {
    const Counts counts = counts_[size_of(r)];
    if (counts.pairs < counts.tokens || counts.pairs > kChosenMax * std::uint64_t{counts.tokens}) {
      refuse_routing(r, comm_.rank(), fmt::format("{} pairs of {} tokens", counts.pairs, counts.tokens),
                     "1 to 255 experts a token");
    }
    in_[size_of(r)].counts = counts;
    rows += r == comm_.rank() ? 0 : counts.tokens;
    leaving += r == comm_.rank() ? 0 : out_[size_of(r)].counts.tokens;
    pairs += counts.pairs;
  }
  if (pairs > kPairsMax || rows + size_of(tokens_) > kPairsMax) {
    refuse_routing(comm_.rank(), comm_.rank(), fmt::format("{} pairs of {} tokens", pairs, rows + size_of(tokens_)),
                   fmt::format("at most {} in one step", kPairsMax));
  }
  const std::size_t here = size_of(tokens_ * hidden_);
  float* const own_x = x_.at_least(here + rows * size_of(hidden_), here);
  float* x = own_x + here;
  std::byte* to = wire_out_.at_least(leaving * row_bytes(narrow_out()));
  std::byte* from = wire_in_.at_least(narrow_out() ? rows * row_bytes(narrow_out()) : 0);
  sends_.clear();
  receives_.clear();
  copies_.clear();
  for (int r = 0; r < ranks(); ++r) {
    if (r == comm_.rank()) {
      continue;
    }
    Leg& out = out_[size_of(r)];
    Leg& in = in_[size_of(r)];
    in.list_bytes = in.counts.tokens + in.counts.pairs * table_->index_bytes;
    sends_.push_back({r, {out.list.at_least(0), out.list_bytes}});
    sends_.push_back({r, {to, out.counts.tokens * row_bytes(narrow_out())}});
    for (const std::int32_t token : out.tokens) {
      copies_.push_back({own_x + token * hidden_, to});
      to += row_bytes(narrow_out());
    }
    receives_.push_back({r, {in.list.at_least(in.list_bytes), in.list_bytes}});
    const std::size_t in_bytes = in.counts.tokens * row_bytes(narrow_out());
    receives_.push_back(
        {r, narrow_out() ? std::span(from, in_bytes) : bytes_of(x, in.counts.tokens * size_of(hidden_))});
    from += narrow_out() ? in_bytes : 0;
    x += in.counts.tokens * size_of(hidden_);
  }
  pack(narrow_out());
  comm_.exchange(sends_, receives_, "expert dispatch: tokens");
  if (narrow_out()) {
    widen(wire_in_.at_least(0), static_cast<std::int64_t>(rows), own_x + here);
  }
  arrived_.x = Rows<const float>(own_x, tokens_ + static_cast<std::int64_t>(rows), hidden_);
}

// Notes for which experts rank `from`'s tokens came, in order of its list. Own tokens are rows of x already.
void ExpertExchange::take_routing(int from, std::int64_t first_row) {
  const bool home = from == comm_.rank();
  Leg& leg = home ? out_[own()] : in_[size_of(from)];
  const std::byte* list = leg.list.at_least(0);
  const std::byte* const end = list + leg.list_bytes;
  std::uint64_t listed = 0;
  for (std::uint32_t i = 0; i < leg.counts.tokens; ++i) {
    const std::size_t count = list < end ? std::to_integer<std::size_t>(*list) : 0;
    if (list == end || size_of(end - list) < 1 + count * table_->index_bytes) {
      refuse_routing(from, comm_.rank(), fmt::format("a list that ends in token {}", i),
                     fmt::format("{} tokens", leg.counts.tokens));
    }
    ++list;
    const std::int64_t row = home ? leg.tokens[i] : first_row + i;
    for (std::size_t j = 0; j < count; ++j, list += table_->index_bytes) {
      std::uint16_t local = 0;
      std::memcpy(&local, list, table_->index_bytes);
      if (local >= table_->own_experts) {
        refuse_routing(from, comm_.rank(), fmt::format("local expert {}", local),
                       fmt::format("below {}", table_->own_experts));
      }
      auto& rows = local_rows_[local];
      pair_expert_.push_back(local);
      pair_index_.push_back(static_cast<std::int32_t>(rows.size()));
      rows.push_back(static_cast<std::int32_t>(row));
    }
    listed += count;
  }
  if (listed != leg.counts.pairs) {
    refuse_routing(from, comm_.rank(), fmt::format("{} experts listed", listed),
                   fmt::format("{} pairs", leg.counts.pairs));
  }
}

// After all lists were taken (the own one first): where each expert's outputs begin, and where every pair of an own
// token finds its output: among the own outputs, or behind them in order of ranks.
void ExpertExchange::place_outputs() {
  arrived_.outputs = 0;
  for (std::size_t e = 0; e < table_->own_experts; ++e) {
    local_first_[e] = arrived_.outputs;
    arrived_.outputs += static_cast<std::int64_t>(local_rows_[e].size());
  }
  for (std::size_t p = 0; p < pair_index_.size(); ++p) {
    pair_index_[p] += static_cast<std::int32_t>(local_first_[size_of(pair_expert_[p])]);
  }
  arrived_.rows = std::span(local_rows_).first(table_->own_experts);
  arrived_.first = std::span(local_first_).first(table_->own_experts);
}

const ExpertExchange::Arrived& ExpertExchange::dispatch(Rows<const std::int32_t> experts, int layer) {
  check_eq(experts.rows, tokens_, "every own token has chosen experts");
  check(experts.columns >= 0 && experts.columns <= kChosenMax, "a token chooses at most 255 experts");
  check(tokens_ <= kPairsMax / std::max<std::int64_t>(experts.columns, 1), "a step's pairs fit 31 bits");
  table_ = &tables_.at(placement_.table_of(layer));
  k_ = experts.columns;
  deal(experts);
  swap_counts();
  swap_tokens();

  for (auto& rows : local_rows_) {
    rows.clear();
  }
  pair_expert_.clear();
  pair_index_.clear();
  take_routing(comm_.rank(), 0);
  std::int64_t row = tokens_;
  away_ = 0;
  for (int r = 0; r < ranks(); ++r) {
    arrived_.outputs_by_rank[size_of(r)] = counts_[size_of(r)].pairs;
    if (r != comm_.rank()) {
      take_routing(r, row);
      row += counts_[size_of(r)].tokens;
      away_ += out_[size_of(r)].counts.pairs;
    }
  }
  place_outputs();

  std::vector<std::int64_t>& first = last_token_;  // the ranks' first rows behind the own outputs
  std::int64_t next = arrived_.outputs;
  for (int r = 0; r < ranks(); ++r) {
    first[size_of(r)] = next;
    next += r == comm_.rank() ? 0 : out_[size_of(r)].counts.pairs;
  }
  std::int32_t* slot = slots_.at_least(0);
  const std::int32_t* own_pair = pair_index_.data();
  for (std::int64_t t = 0; t < tokens_; ++t) {
    for (std::int64_t j = 0; j < k_; ++j, ++slot) {
      const auto rank = table_->routes[size_of(experts.row(t)[j])].rank;
      *slot = *slot < 0 ? *own_pair++ : static_cast<std::int32_t>(first[rank] + *slot);
    }
  }
  return arrived_;
}

ExpertExchange::Home ExpertExchange::combine() {
  const Rows<float> made = outputs();
  float* const others = made.data + made.rows * hidden_;
  const std::size_t leaving = size_of(arrived_.outputs - arrived_.outputs_by_rank[own()]);
  std::byte* to = wire_out_.at_least(leaving * row_bytes(narrow_home()));
  std::byte* from = wire_in_.at_least(narrow_home() ? size_of(away_) * row_bytes(narrow_home()) : 0);
  float* next = others;
  sends_.clear();
  receives_.clear();
  copies_.clear();
  const std::int32_t* pair = pair_index_.data() + arrived_.outputs_by_rank[own()];
  for (int r = 0; r < ranks(); ++r) {
    if (r == comm_.rank()) {
      continue;
    }
    const auto count = size_of(arrived_.outputs_by_rank[size_of(r)]);
    sends_.push_back({r, {to, count * row_bytes(narrow_home())}});
    for (std::size_t p = 0; p < count; ++p, to += row_bytes(narrow_home())) {
      copies_.push_back({made.row(*pair++), to});
    }
    const std::size_t pairs = out_[size_of(r)].counts.pairs;
    receives_.push_back({r, narrow_home() ? std::span(from, pairs * row_bytes(narrow_home()))
                                          : bytes_of(next, pairs * size_of(hidden_))});
    from += narrow_home() ? pairs * row_bytes(narrow_home()) : 0;
    next += pairs * size_of(hidden_);
  }
  pack(narrow_home());
  comm_.exchange(sends_, receives_, "expert combine");
  if (narrow_home()) {
    widen(wire_in_.at_least(0), away_, others);
  }
  return {.outputs = Rows<float>(made.data, made.rows + away_, hidden_),
          .slots = Rows<const std::int32_t>(slots_.at_least(0), tokens_, k_)};
}

ExpertExchange::ClosedForm ExpertExchange::closed_form(Rows<const std::int32_t> experts,
                                                       std::span<const std::int64_t> arrived_outputs_by_rank,
                                                       int layer) const {
  check_eq(arrived_outputs_by_rank.size(), size_of(ranks()), "every rank gets outputs back");
  const Table& table = tables_.at(placement_.table_of(layer));
  ClosedForm form;
  for (int r = 0; r < ranks(); ++r) {
    if (r == comm_.rank()) {
      continue;
    }
    form.dispatch_headers += sizeof(Counts);
    form.combine_payload += static_cast<std::uint64_t>(arrived_outputs_by_rank[size_of(r)]) * row_bytes(narrow_home());
    for (std::int64_t t = 0; t < experts.rows; ++t) {
      const std::int32_t* const chosen = experts.row(t);
      const auto pairs = std::count_if(chosen, chosen + experts.columns,
                                       [&](std::int32_t e) { return table.routes[size_of(e)].rank == r; });
      form.dispatch_payload += pairs > 0 ? row_bytes(narrow_out()) : 0;
      form.dispatch_headers += pairs > 0 ? 1 + table.index_bytes * static_cast<std::uint64_t>(pairs) : 0;
    }
  }
  return form;
}

}  // namespace zoetrope
