#include "tests/runtime/engine/sequences_suite.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <tuple>

#include "kernels/body.h"
#include "kernels/thread_pool.h"
#include "parallel/collectives.h"
#include "runtime/model/model.h"
#include "runtime/model/text_shard.h"
#include "tests/golden_folder.h"

namespace zoetrope::test {
namespace {

constexpr int kLikeliest = 20;

// Sequence `index`; when they share, the first two thirds of the shorter of two are the same tokens.
Prompt random_prompt(const ModelConfig& config, std::int64_t tokens, std::size_t index, bool shares) {
  std::mt19937 common(77), own(static_cast<unsigned>(1000 + index));
  Prompt prompt;
  for (std::int64_t i = 0; i < tokens; ++i) {
    auto& random = shares && i < tokens * 2 / 3 ? common : own;
    prompt.tokens.push_back(static_cast<TokenId>(random() % static_cast<std::uint64_t>(config.text.vocabulary)));
  }
  lay_out_positions(prompt);
  return prompt;
}

RequestId id_of(std::size_t index) { return RequestId{index + 1}; }
std::size_t index_of(RequestId id) { return static_cast<std::size_t>(id) - 1; }

// What all ranks drew, told to all, in the order of the chunks' positions.
class Draws {
 public:
  Draws(Ranks& ranks, const StepResult& own) : layout_(ranks.layout) {
    for (const auto& bytes : all_gather(*ranks.world, encoded(own), "what was drawn")) {
      results_.push_back(decoded_result(bytes));
      EXPECT_TRUE(results_.back().failed.empty());
    }
    next_.resize(results_.size(), 0);
  }
  // The next row that `member` drew: the first tp rank of the last stage draws.
  const Sampled& next(int member) {
    const int rank = ((layout_.pp - 1) * layout_.ring + member) * layout_.tp;
    return results_.at(static_cast<std::size_t>(rank)).drawn.at(next_[static_cast<std::size_t>(rank)]++).sampled;
  }
  bool exhausted() const {
    for (std::size_t rank = 0; rank < results_.size(); ++rank) {
      if (next_[rank] != results_[rank].drawn.size()) {
        return false;
      }
    }
    return true;
  }

 private:
  Layout layout_;
  std::vector<StepResult> results_;
  std::vector<std::size_t> next_;
};

// Planner and step runner of one rank. Every rank plans for itself: the same calls give the same plans.
class Sequences {
 public:
  Sequences(Ranks& ranks, const Checkpoint& checkpoint, const Way& way, const std::vector<Length>& lengths)
      : ranks_(ranks), pool_(1), planner_(way.layout, way.limits) {
    const Compute compute{.body = &body(best_body()), .pool = &pool_, .precision = way.precision};
    Model::Options options;
    options.compute = compute;
    options.ring_pass = way.pass;
    options.shared_rows_max = 2 * way.limits.chunk_tokens_max;
    const ModelConfig& config = checkpoint.config();
    if (way.expert_groups > 0) {
      options.experts = grouped_experts_placement(config.text.experts, way.layout.stage_ranks(), way.expert_groups,
                                                  text_shard(config, 0, 1).expert_slices);
    }
    model_ = Model::load(checkpoint, ranks, options);
    runner_ = std::make_unique<StepRunner>(*model_, ranks, compute, way.limits.pages_per_member, way.transport);
    outcome_.drawn.resize(lengths.size());
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      prompts_.push_back(random_prompt(config, lengths[i].prompt_tokens, i, way.shares));
      Request request{.id = id_of(i),
                      .prompt_tokens = lengths[i].prompt_tokens,
                      .new_tokens_max = lengths[i].new_tokens,
                      .units = {}};
      if (way.cached) {
        request.tokens = prompts_.back().tokens;
      }
      EXPECT_EQ(planner_.refusal(request), std::nullopt) << way.described();
      planner_.submit(request);
    }
  }

  Outcome run() {
    while (!planner_.idle()) {
      step();
    }
    return std::move(outcome_);
  }

 private:
  void step() {
    StepMessage message;
    message.plan = planner_.plan();
    for (const SequenceStart& start : message.plan.starts) {
      spans_[start.id] = start.span;
      outcome_.cached_tokens += start.cached_tokens;
      SamplingSettings greedy;
      greedy.temperature = 0;
      greedy.top_logprobs = kLikeliest;
      message.payloads.push_back({prompts_[index_of(start.id)], greedy});
    }
    for (const Growth& growth : message.plan.growths) {
      spans_[growth.id] = growth.span;
      outcome_.grown.push_back(growth.span.members);
    }
    std::map<RequestId, bool> wanted;
    for (Chunk& chunk : message.plan.chunks) {
      wanted[chunk.id] = wanted[chunk.id] || !chunk.sampled.empty();
      chunk.sampled.resize(static_cast<std::size_t>(chunk.tokens));
      std::iota(chunk.sampled.begin(), chunk.sampled.end(), chunk.first_token);
    }
    Draws draws(ranks_, runner_->run(message));
    for (const Chunk& chunk : message.plan.chunks) {
      for (const std::int64_t index : chunk.sampled) {
        std::vector<Sampled>& drawn = outcome_.drawn[index_of(chunk.id)];
        drawn.resize(std::max(drawn.size(), static_cast<std::size_t>(index) + 1));
        drawn[static_cast<std::size_t>(index)] = draws.next(spans_.at(chunk.id).computes(index));
      }
    }
    EXPECT_TRUE(draws.exhausted());
    std::vector<Drawn> told;
    for (const auto& [id, sampled] : wanted) {
      if (sampled) {
        told.push_back({id, {outcome_.drawn[index_of(id)].back().token}, false});
      }
    }
    planner_.commit(told);
    EXPECT_EQ(planner_.invariants_broken(), "");
  }

  Ranks& ranks_;
  ThreadPool pool_;
  Planner planner_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<StepRunner> runner_;
  std::vector<Prompt> prompts_;
  std::map<RequestId, Span> spans_;
  Outcome outcome_;
};

bool equal(const Sampled& a, const Sampled& b) {
  return a.token == b.token && std::memcmp(&a.logprob, &b.logprob, sizeof(float)) == 0 &&
         a.top.size() == b.top.size() &&
         std::equal(a.top.begin(), a.top.end(), b.top.begin(), [](const TokenLogprob& x, const TokenLogprob& y) {
           return x.token == y.token && std::memcmp(&x.logprob, &y.logprob, sizeof(float)) == 0;
         });
}

// What one rank makes of the sequences, computed once for each precision.
const Outcome& of_one(const std::string& checkpoint, const Way& way, const std::vector<Length>& lengths) {
  using Key = std::tuple<std::string, Precision, bool, std::vector<std::int64_t>>;
  static std::map<Key, Outcome> known;
  Key key{checkpoint, way.precision, way.shares, {}};
  for (const Length& length : lengths) {
    std::get<3>(key).insert(std::get<3>(key).end(), {length.prompt_tokens, length.new_tokens});
  }
  const auto [at, fresh] = known.try_emplace(std::move(key));
  if (fresh) {
    Ranks ranks = self_ranks();
    Way alone = test::way({});
    alone.limits.pages_per_member = 128;  // all of them
    alone.precision = way.precision;
    alone.shares = way.shares;
    at->second = outcome_of(ranks, checkpoint, alone, lengths);
  }
  return at->second;
}

}  // namespace

std::string Way::described() const {
  return fmt::format("{} span {} {} {} pass {} ep {} pages {} chunk {}", zoetrope::described(layout),
                     limits.span_members, precision == Precision::kBf16 ? "bf16" : "fp32",
                     transport == RingTransport::kShared     ? "shared"
                     : transport == RingTransport::kMessages ? "messages"
                                                             : "auto",
                     static_cast<int>(pass), expert_groups, limits.pages_per_member, limits.chunk_tokens_max);
}

Way way(const Layout& layout, int span_members) {
  Way way;
  way.layout = layout;
  way.limits = {.context_tokens_max = 100000, .pages_per_member = 64, .chunk_tokens_max = 300, .sequences_max = 8};
  way.limits.span_members = span_members;
  way.limits.waves_max = layout.pp == 1 ? 1 : 2 * layout.pp;
  return way;
}

Outcome outcome_of(Ranks& ranks, const std::string& checkpoint, const Way& way, const std::vector<Length>& lengths) {
  const FpEnvironment environment;
  return Sequences(ranks, Checkpoint::open(golden_folder() / "checkpoints" / checkpoint), way, lengths).run();
}

Outcome expect_bits_of_one(const RunRanks& run, const std::string& checkpoint, const Way& way,
                           const std::vector<Length>& lengths) {
  Outcome outcome;
  std::mutex mutex;  // ranks may be threads or processes: each that comes tells the same
  run(way.layout, [&](Ranks& ranks) {
    Outcome own = outcome_of(ranks, checkpoint, way, lengths);
    const std::lock_guard lock(mutex);
    outcome = std::move(own);
    if (ranks.leader()) {
      const Outcome& expected = of_one(checkpoint, way, lengths);
      for (std::size_t i = 0; i < lengths.size(); ++i) {
        const auto positions = static_cast<std::size_t>(lengths[i].prompt_tokens + lengths[i].new_tokens - 1);
        EXPECT_EQ(expected.drawn[i].size(), positions);
        ASSERT_EQ(outcome.drawn[i].size(), positions) << checkpoint << ' ' << way.described() << " sequence " << i;
        for (std::size_t position = 0; position < positions; ++position) {
          const Sampled& ours = outcome.drawn[i][position];
          ASSERT_TRUE(ours.top.empty() ||
                      equal(ours, expected.drawn[i][position]))  // empty: a cached prefix, computed once
              << checkpoint << ' ' << way.described() << " sequence " << i << " position " << position << ": token "
              << ours.token << " with " << ours.logprob << ", one rank " << expected.drawn[i][position].token
              << " with " << expected.drawn[i][position].logprob;
        }
      }
    }
  });
  return outcome;
}

void check_growths(const RunRanks& run, const Layout& layout) {
  for (const RingTransport transport : {RingTransport::kMessages, RingTransport::kShared}) {
    Way how = way(layout);
    how.transport = transport;
    const auto grow = [&](const std::string& checkpoint, std::vector<Length> lengths, std::int32_t pages,
                          std::int64_t chunk) {
      how.precision = chunk % 2 == 0 ? Precision::kBf16 : Precision::kFp32;
      how.limits.pages_per_member = pages;
      how.limits.chunk_tokens_max = chunk;
      return expect_bits_of_one(run, checkpoint, how, lengths).grown;
    };
    for (const std::int64_t prompt : {255, 256, 257}) {  // one page on each member
      EXPECT_EQ(grow("tiny-dense", {{prompt, 3}}, 1, 300),
                prompt + 3 > 256 && prompt <= 256 ? std::vector<int>{2} : std::vector<int>{})
          << prompt;
    }
    EXPECT_EQ(grow("tiny-moe", {{500, 30}}, 2, 200), std::vector<int>{2});
    if (layout.ring == 4) {
      EXPECT_EQ(grow("tiny-dense", {{250, 270}}, 1, 99), (std::vector<int>{2, 4})) << "one member stays without pages";
    }
    how.limits.span_pages = 1;
    how.limits.work.page_transfer = 1;
    for (const std::int64_t chunk : {150, 151}) {
      EXPECT_FALSE(grow(chunk == 150 ? "tiny-moe" : "tiny-dense", {{2100, 2}, {200, 2}}, 32, chunk).empty())
          << "when the other one is gone";
    }
  }
}

}  // namespace zoetrope::test
