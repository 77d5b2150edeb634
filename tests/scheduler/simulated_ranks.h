// Ranks that execute step plans on rows which only know what they should hold: the history of their sequence up to
// their token. A page that is handed out twice, moved wrongly, shared with the wrong prefix or written before it was
// copied is noticed by the next chunk that looks at it.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "scheduler/planner.h"

namespace zoetrope {

class SimulatedRanks {
 public:
  // Before the plan in which the sequence starts.
  void know(const Request& request) { histories_[request.id] = history_of(request); }

  void execute(const StepPlan& plan) {
    for (const RequestId id : plan.releases) {
      EXPECT_EQ(sequences_.erase(id), 1U);
    }
    for (const SequenceStart& start : plan.starts) {
      begin(start);
    }
    for (const Growth& growth : plan.growths) {
      grow(growth);
    }
    for (const Chunk& chunk : plan.chunks) {
      compute(chunk);
    }
  }

  // The mutant of execute(): the span grows and no page moves.
  void misplace(const Growth& growth) {
    Sequence& sequence = sequences_.at(growth.id);
    sequence.span = growth.span;
    look_back(growth.id, sequence);
  }

  std::int64_t computed_rows() const { return computed_rows_; }
  std::int64_t growths() const { return growths_; }
  Span span_of(RequestId id) const { return sequences_.at(id).span; }

 private:
  struct Sequence {
    Span span;
    std::vector<std::int32_t> pages;
    std::int64_t computed = 0;
    std::uint64_t last = 0;  // history after the answer's last token
  };
  using Place = std::pair<int, std::int32_t>;  // member, page
  using Rows = std::array<std::uint64_t, kPageRows>;

  static std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
    a = (a ^ b) * 0x9e3779b97f4a7c15U;
    return a ^ (a >> 29);
  }

  // [prompt_tokens]: everything up to the token, media included.
  static std::vector<std::uint64_t> history_of(const Request& request) {
    std::vector<std::uint64_t> history;
    std::uint64_t value = request.tokens.empty() ? static_cast<std::uint64_t>(request.id) + 1 : 1;
    auto unit = request.units.begin();
    for (std::int64_t token = 0; token < request.prompt_tokens; ++token) {
      while (unit != request.units.end() && unit->first_token + unit->tokens <= token) {
        ++unit;
      }
      const bool seen = unit != request.units.end() && unit->first_token <= token;
      value = mixed(value, request.tokens.empty()
                               ? 1
                               : static_cast<std::uint64_t>(request.tokens[static_cast<std::size_t>(token)]));
      value = mixed(value, seen ? unit->fingerprint[0] + 1 : 0);
      history.push_back(value);
    }
    return history;
  }

  Rows& rows_of(const Sequence& sequence, std::int64_t page) {
    return memory_[{sequence.span.owner(page), sequence.pages.at(static_cast<std::size_t>(page))}];
  }

  void begin(const SequenceStart& start) {
    Sequence sequence{start.span, start.pages, start.cached_tokens, 0};
    if (start.copied_page >= 0) {
      const int member = start.span.owner(static_cast<std::int64_t>(start.pages.size()) - 1);
      memory_[{member, start.pages.back()}] = memory_[{member, start.copied_page}];
    }
    look_back(start.id, sequence);
    EXPECT_TRUE(sequences_.emplace(start.id, sequence).second);
  }

  void grow(const Growth& growth) {
    Sequence& sequence = sequences_.at(growth.id);
    ASSERT_GT(growth.span.members, sequence.span.members);
    std::size_t moved = 0;
    for (std::size_t page = 0; page < sequence.pages.size(); ++page) {
      const auto index = static_cast<std::int64_t>(page);
      if (sequence.span.owner(index) == growth.span.owner(index)) {
        continue;
      }
      const std::int32_t to = growth.pages.at(moved++);
      memory_[{growth.span.owner(index), to}] = rows_of(sequence, index);
      sequence.pages[page] = to;
    }
    EXPECT_EQ(moved, growth.pages.size());
    sequence.span = growth.span;
    ++growths_;
    look_back(growth.id, sequence);
  }

  // Every row before the next chunk is what it should be.
  void look_back(RequestId id, Sequence& sequence) {
    const std::vector<std::uint64_t>& history = histories_.at(id);
    for (std::int64_t token = 0; token < sequence.computed; ++token) {
      ASSERT_EQ(rows_of(sequence, token / kPageRows)[static_cast<std::size_t>(token % kPageRows)],
                history.at(static_cast<std::size_t>(token)))
          << "token " << token << " of request " << static_cast<std::uint64_t>(id);
    }
  }

  void compute(const Chunk& chunk) {
    Sequence& sequence = sequences_.at(chunk.id);
    ASSERT_EQ(chunk.first_token, sequence.computed);
    look_back(chunk.id, sequence);
    for (const std::int32_t page : chunk.new_pages) {
      sequence.pages.push_back(page);
      rows_of(sequence, static_cast<std::int64_t>(sequence.pages.size()) - 1).fill(0);
    }
    std::vector<std::uint64_t>& history = histories_.at(chunk.id);
    for (const std::int32_t token : chunk.drawn_tokens) {
      history.push_back(mixed(mixed(history.back(), static_cast<std::uint64_t>(token)), 0));
    }
    for (std::int64_t token = chunk.first_token; token < chunk.first_token + chunk.tokens; ++token) {
      rows_of(sequence, token / kPageRows)[static_cast<std::size_t>(token % kPageRows)] =
          history.at(static_cast<std::size_t>(token));
      ++computed_rows_;
    }
    sequence.computed += chunk.tokens;
  }

  std::map<RequestId, std::vector<std::uint64_t>> histories_;
  std::map<RequestId, Sequence> sequences_;
  std::map<Place, Rows> memory_;
  std::int64_t computed_rows_ = 0, growths_ = 0;
};

}  // namespace zoetrope
