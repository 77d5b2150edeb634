// `mpirun -n N zoetrope bench ring`: attention of one long sequence that spans all ranks, by both passes and both
// transports, interleaved with the same work done by the ranks for themselves, each on a whole copy of the sequence.
#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <tuple>

#include "kernels/body.h"
#include "monitoring/check.h"
#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "parallel/ring_attention.h"
#include "parallel/ring_rates.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/cli/stopwatch.h"
#include "runtime/json/json.h"
#include "runtime/model/anonymous_memory.h"

namespace zoetrope {
namespace {

// Of the 235B-A22B: 16 query heads share a KV head.
constexpr int kHeads = 64;
constexpr KvLayout kLayout{.kv_heads = 4, .head_dim = 128, .precision = Precision::kBf16};
constexpr std::int64_t kColumns = std::int64_t{kHeads} * kLayout.head_dim;
constexpr std::int64_t kKvColumns = std::int64_t{kLayout.kv_heads} * kLayout.head_dim;

struct Named {
  const char* name;
  RingPass pass;
  RingTransport transport;
};
constexpr Named kWays[] = {{"pages, shared", RingPass::kPages, RingTransport::kShared},
                           {"pages, messages", RingPass::kPages, RingTransport::kMessages},
                           {"queries, shared", RingPass::kQueries, RingTransport::kShared},
                           {"queries, messages", RingPass::kQueries, RingTransport::kMessages}};

// Ranks of several hosts share no memory: with --ring-transport messages there is nothing else to measure.
std::vector<RingTransport> transports_of(RingTransport wish) {
  return wish == RingTransport::kMessages ? std::vector{RingTransport::kMessages}
                                          : std::vector{RingTransport::kShared, RingTransport::kMessages};
}

std::vector<Named> ways_of(RingTransport wish) {
  std::vector<Named> ways(std::begin(kWays), std::end(kWays));
  std::erase_if(ways, [&](const Named& way) { return wish == RingTransport::kMessages && way.transport != wish; });
  return ways;
}

std::vector<float> random_rows(std::int64_t first, std::int64_t end, std::int64_t columns, unsigned seed) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>((end - first) * columns));
  for (std::int64_t row = first; row < end; ++row) {
    std::minstd_rand random(seed + static_cast<unsigned>(row) * 7U);
    for (std::int64_t column = 0; column < columns; ++column) {
      values.push_back(round_bf16(static_cast<float>(random()) * 0x1p-30F - 1.0F));
    }
  }
  return values;
}

// The last `tokens` tokens of a sequence of `context`: its pages on this rank in three places (own ones in shared
// memory, own ones in private memory, all of them), and the rows that this rank computes.
class Step {
 public:
  Step(Ranks& ranks, const Compute& compute, RingTransport wish, std::int64_t context, std::int64_t tokens)
      : ranks_(ranks),
        compute_(compute),
        wish_(wish),
        span_{.members = ranks.ring->size(), .first_member = 0, .ring = ranks.ring->size()},
        first_(context - tokens),
        tokens_(tokens),
        pages_(div_ceil(context, std::int64_t{kPageTokens})),
        pool_pages_(div_ceil(pages_, std::int64_t{span_.members})),
        shared_(*ranks.ring, ranks.host_name, static_cast<std::size_t>(pool_pages_) * kLayout.page_bytes(),
                transports_of(wish)[0]),
        own_(static_cast<std::size_t>(pool_pages_) * kLayout.page_bytes(), "a member's pages"),
        whole_(static_cast<std::size_t>(pages_) * kLayout.page_bytes(), "a whole sequence") {
    for (const int place : shared_.places()) {
      first_page_.push_back(place * pool_pages_);
    }
    fill_rows();
    fill_pages();
  }

  RingJob job(std::vector<float>& out) const {
    out.resize(q_.size());
    return {.span = span_,
            .first_token = first_,
            .tokens = tokens_,
            .block_table = table_,
            .q = {q_.data(), rows(), kColumns},
            .k = {k_.data(), rows(), kKvColumns},
            .v = {v_.data(), rows(), kKvColumns},
            .out = {out.data(), rows(), kColumns}};
  }
  RingPages pages(RingTransport transport) const {
    if (transport == RingTransport::kMessages) {
      return {.own = {own_.data(), kLayout.page_bytes()}};
    }
    return {.own = {shared_.own().data(), kLayout.page_bytes()},
            .all = {shared_.pools().data(), kLayout.page_bytes()},
            .first_page = first_page_};
  }

  // Own rows over a whole copy. In free order the walk knows one class only: page p stands where the p-th page of class
  // 0 stands, and rows see as much of it.
  void alone(bool free_order, std::vector<float>& out) const {
    const KvPages where{whole_.data(), kLayout.page_bytes()};
    std::vector<KvSlot> slots;
    std::vector<std::int64_t> positions;
    for (const std::int64_t token : own_tokens_) {
      slots.push_back({token / kPageTokens, static_cast<int>(token % kPageTokens)});
      positions.push_back(token + (free_order ? token / kPageTokens * kPageTokens * (kPageClasses - 1) : 0));
    }
    std::vector<PageRef> refs;
    for (std::int64_t page = 0; page < pages_; ++page) {
      refs.push_back(
          {.page_id = page,
           .first_position = page * kPageTokens * (free_order ? kPageClasses : 1),
           .page_class = free_order ? 0 : static_cast<int>(page % kPageClasses),
           .valid_rows = static_cast<int>(std::min<std::int64_t>(kPageTokens, first_ + tokens_ - page * kPageTokens))});
    }
    out.resize(q_.size());
    append_kv(compute_, kLayout, where, {k_.data(), rows(), kKvColumns}, {v_.data(), rows(), kKvColumns}, slots);
    const AttentionJob own{.q = {q_.data(), rows(), kColumns},
                           .positions = positions,
                           .pages = refs,
                           .out = {out.data(), rows(), kColumns}};
    attention(compute_, kLayout, where, std::span(&own, 1));
  }

  // Pairs of query and token that the member in `slot` looks at.
  double work(int slot, RingPass pass) const {
    double pairs = 0;
    for (std::int64_t token = first_; token < first_ + tokens_; ++token) {
      if (pass == RingPass::kPages) {
        pairs += span_.computes(token) == span_.member_at(slot) ? static_cast<double>(token + 1) : 0.0;
        continue;
      }
      const std::int64_t full = token / kPageTokens;  // pages that the row sees whole
      pairs += static_cast<double>(span_.pages_of(slot, full) * kPageTokens);
      pairs += span_.owner(full) == span_.member_at(slot) ? static_cast<double>(token % kPageTokens + 1) : 0.0;
    }
    return pairs;
  }
  const Span& span() const { return span_; }

 private:
  std::int64_t rows() const { return static_cast<std::int64_t>(own_tokens_.size()); }

  void fill_rows() {
    for (std::int64_t token = first_; token < first_ + tokens_; ++token) {
      if (span_.computes(token) == ranks_.ring->rank()) {
        own_tokens_.push_back(token);
        for (const auto& [to, columns, seed] :
             {std::tuple{&q_, kColumns, 1U}, std::tuple{&k_, kKvColumns, 2U}, std::tuple{&v_, kKvColumns, 3U}}) {
          const auto row = random_rows(token, token + 1, columns, seed);
          to->insert(to->end(), row.begin(), row.end());
        }
      }
    }
  }

  // A few different pages over and over; then the step's rows where they belong.
  void fill_pages() {
    constexpr std::int64_t kPatterns = 5;
    std::vector<std::byte> patterns(kPatterns * kLayout.page_bytes());
    const KvPages pattern{patterns.data(), kLayout.page_bytes()};
    for (std::int64_t p = 0; p < kPatterns; ++p) {
      append(pattern, random_rows(p * kPageTokens, (p + 1) * kPageTokens, kKvColumns, 4),
             random_rows(p * kPageTokens, (p + 1) * kPageTokens, kKvColumns, 5), p * kPageTokens);
    }
    const KvPages whole{whole_.data(), kLayout.page_bytes()};
    for (std::int64_t page = 0; page < pages_; ++page) {
      table_.push_back(static_cast<std::int32_t>(page / span_.members));
      std::memcpy(whole.page(page), pattern.page(page % kPatterns), kLayout.page_bytes());
      if (span_.owner(page) == ranks_.ring->rank()) {
        for (const RingTransport transport : transports_of(wish_)) {
          std::memcpy(pages(transport).own.page(table_.back()), pattern.page(page % kPatterns), kLayout.page_bytes());
        }
      }
    }
    append(whole, random_rows(first_, first_ + tokens_, kKvColumns, 2),
           random_rows(first_, first_ + tokens_, kKvColumns, 3), first_);
  }
  void append(KvPages pages, const std::vector<float>& k, const std::vector<float>& v, std::int64_t first) const {
    const std::int64_t count = static_cast<std::int64_t>(k.size()) / kKvColumns;
    std::vector<KvSlot> slots;
    for (std::int64_t token = first; token < first + count; ++token) {
      slots.push_back({token / kPageTokens, static_cast<int>(token % kPageTokens)});
    }
    append_kv(compute_, kLayout, pages, {k.data(), count, kKvColumns}, {v.data(), count, kKvColumns}, slots);
  }

  Ranks& ranks_;
  Compute compute_;
  RingTransport wish_;
  Span span_;
  std::int64_t first_, tokens_, pages_, pool_pages_;
  RingMemory shared_;
  AnonymousMemory own_, whole_;
  std::vector<std::int64_t> first_page_, own_tokens_;
  std::vector<std::int32_t> table_;
  std::vector<float> q_, k_, v_;
};

struct Row {
  std::string way;
  double seconds = 0;          // of the slowest rank, median
  double of_independent = 0;   // independent / this, median over rounds
  double balance = 0;          // work of the busiest member over the mean
  std::uint64_t bytes = 0;     // sent by all ranks in one run
  std::uint64_t closed_form = 0;
};

double slowest(Communicator& world, const std::function<void()>& run) {
  barrier(world, "benchmark repetition");
  const double begun = wall_seconds();
  run();
  const auto all = all_gather_value(world, wall_seconds() - begun, "times of a benchmark");
  return *std::max_element(all.begin(), all.end());
}

double sum_over_ranks(Communicator& world, double own) {
  const auto all = all_gather_value(world, own, "figures of a benchmark");
  return std::accumulate(all.begin(), all.end(), 0.0);
}

double balance(const Step& step, RingPass pass) {
  double most = 0, sum = 0;
  for (int slot = 0; slot < step.span().members; ++slot) {
    most = std::max(most, step.work(slot, pass));
    sum += step.work(slot, pass);
  }
  return most * step.span().members / sum;
}

std::uint64_t closed_form(const Step& step, const RingJob& job, const Named& way) {
  const bool shared = way.transport == RingTransport::kShared;
  const std::int64_t visits = way.pass == RingPass::kQueries ? RingAttention::query_bytes(kLayout, kHeads, job)
                              : shared                       ? 0
                                                             : RingAttention::page_bytes(kLayout, job);
  return static_cast<std::uint64_t>(
      visits + (shared ? 2 * RingAttention::fence_bytes(step.span()) : RingAttention::row_bytes(kLayout, job)));
}

// Rounds of: independent, free order, then every way; the first round warms up and compares the bits.
std::vector<Row> measure(Ranks& ranks, const Compute& compute, RingTransport wish, std::int64_t context,
                         std::int64_t tokens, int reps) {
  Step step(ranks, compute, wish, context, tokens);
  const std::vector<Named> named = ways_of(wish);
  std::vector<RingAttention> ways;
  std::vector<Row> rows{{"independent", 0, 0, balance(step, RingPass::kPages), 0, 0},
                        {"independent, free order", 0, 0, balance(step, RingPass::kPages), 0, 0}};
  for (const Named& way : named) {
    ways.emplace_back(*ranks.ring, compute, kLayout, way.pass);
    rows.push_back({way.name, 0, 0, balance(step, way.pass), 0, 0});
  }
  std::vector<float> expected, out;
  std::vector<std::vector<double>> seconds(rows.size()), ratios(rows.size());
  for (int rep = 0; rep <= reps; ++rep) {
    std::vector<double> now;
    now.push_back(slowest(*ranks.world, [&] { step.alone(false, expected); }));
    now.push_back(slowest(*ranks.world, [&] { step.alone(true, out); }));
    for (std::size_t w = 0; w < ways.size(); ++w) {
      const RingJob job = step.job(out);
      const std::uint64_t before = ranks.ring->traffic().bytes;
      now.push_back(slowest(*ranks.world,
                            [&] { ways[w].run(step.pages(named[w].transport), kHeads, std::span(&job, 1), true); }));
      if (rep == 0) {
        rows[w + 2].bytes = static_cast<std::uint64_t>(
            sum_over_ranks(*ranks.world, static_cast<double>(ranks.ring->traffic().bytes - before)));
        rows[w + 2].closed_form = closed_form(step, job, named[w]);
        check(std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)) == 0,
              "a ring gives the bits of one member");
        check_eq(rows[w + 2].bytes, rows[w + 2].closed_form, "a ring sends the bytes of its closed form");
      }
    }
    for (std::size_t i = 0; rep > 0 && i < rows.size(); ++i) {
      seconds[i].push_back(now[i]);
      ratios[i].push_back(now[0] / now[i]);
    }
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].seconds = median(seconds[i]);
    rows[i].of_independent = median(ratios[i]);
  }
  return rows;
}

// Steps of few and of many tokens at the end of a sequence by both passes: which is quicker, and which the cost model
// takes.
struct Crossover {
  std::int64_t tokens = 0;
  RingTransport transport = RingTransport::kMessages;
  double pages = 0, queries = 0;                      // seconds of the slowest rank, median
  double pages_foreseen = 0, queries_foreseen = 0;    // by the cost model
  bool chosen_pages = false;
  double regret() const { return (chosen_pages ? pages : queries) / std::min(pages, queries) - 1; }
};

std::vector<Crossover> cross(Ranks& ranks, const Compute& compute, const RingRates& rates, RingTransport wish,
                             std::int64_t context, std::int64_t most, int reps) {
  std::vector<Crossover> all;
  RingAttention by_pages(*ranks.ring, compute, kLayout, RingPass::kPages),
      by_queries(*ranks.ring, compute, kLayout, RingPass::kQueries);
  std::vector<float> out;
  for (std::int64_t tokens = 1; tokens <= most; tokens *= 4) {
    const Step step(ranks, compute, wish, context, tokens);
    for (const RingTransport transport : transports_of(wish)) {
      const RingJob job = step.job(out);
      const RingStep seen = RingAttention::step_of(kLayout, kHeads, job, transport == RingTransport::kShared);
      std::vector<double> pages, queries;
      for (int rep = 0; rep <= reps; ++rep) {
        pages.push_back(
            slowest(*ranks.world, [&] { by_pages.run(step.pages(transport), kHeads, std::span(&job, 1), true); }));
        queries.push_back(
            slowest(*ranks.world, [&] { by_queries.run(step.pages(transport), kHeads, std::span(&job, 1), true); }));
      }
      pages.erase(pages.begin());  // the first ones warm up
      queries.erase(queries.begin());
      Crossover row{tokens,
                    transport,
                    median(pages),
                    median(queries),
                    seconds_by_pages(rates, seen),
                    seconds_by_queries(rates, seen),
                    false};
      row.chosen_pages = row.pages_foreseen < row.queries_foreseen;
      all.push_back(row);
    }
  }
  return all;
}

const char* name_of(RingTransport transport) { return transport == RingTransport::kShared ? "shared" : "messages"; }

std::string table(const RingRates& rates, const std::vector<Crossover>& rows, std::int64_t context) {
  std::string text = fmt::format(
      "rates: page {:.2f} us + {:.3f} us a row, partial {:.2f} us, message {:.1f} us + {:.2f} ns a KiB, {:.0f} % "
      "hidden\n",
      rates.page_seconds * 1e6, rates.row_seconds * 1e6, rates.partial_seconds * 1e6, rates.message_seconds * 1e6,
      rates.byte_seconds * 1024e9, 100 * rates.hidden);
  text += fmt::format("steps at the end of {}\n  {:>7} {:<9} {:>12} {:>12} {:>12} {:>12} {:>8} {:>9}\n", context,
                      "tokens", "transport", "pages us", "foreseen", "queries us", "foreseen", "chosen", "regret %");
  for (const Crossover& row : rows) {
    text += fmt::format("  {:>7} {:<9} {:>12.1f} {:>12.1f} {:>12.1f} {:>12.1f} {:>8} {:>9.1f}\n", row.tokens,
                        name_of(row.transport), row.pages * 1e6, row.pages_foreseen * 1e6, row.queries * 1e6,
                        row.queries_foreseen * 1e6, row.chosen_pages ? "pages" : "queries", 100 * row.regret());
  }
  return text;
}

json::Array array_of(const std::vector<Crossover>& rows) {
  json::Array all;
  for (const Crossover& row : rows) {
    json::Object object;
    object["tokens"] = row.tokens;
    object["transport"] = name_of(row.transport);
    object["pages_seconds"] = row.pages;
    object["pages_foreseen"] = row.pages_foreseen;
    object["queries_seconds"] = row.queries;
    object["queries_foreseen"] = row.queries_foreseen;
    object["chosen"] = row.chosen_pages ? "pages" : "queries";
    object["regret"] = row.regret();
    all.push_back(std::move(object));
  }
  return all;
}

std::string table(std::int64_t context, const std::vector<Row>& rows, double flops) {
  std::string text = fmt::format("tokens at the end of {} ({:.1f} GF/s by the ranks together when independent)\n",
                                 context, flops / rows[0].seconds * 1e-9);
  text += fmt::format("  {:<26} {:>10} {:>16} {:>14} {:>14} {:>14}\n", "way", "ms", "of independent", "work max/mean",
                      "bytes sent", "closed form");
  for (const Row& row : rows) {
    text += fmt::format("  {:<26} {:>10.2f} {:>16.3f} {:>14.4f} {:>14} {:>14}\n", row.way, row.seconds * 1e3,
                        row.of_independent, row.balance, row.bytes, row.closed_form);
  }
  return text;
}

json::Object object_of(const Row& row) {
  json::Object object;
  object["way"] = row.way;
  object["seconds"] = row.seconds;
  object["of_independent"] = row.of_independent;
  object["work_max_over_mean"] = row.balance;
  object["bytes"] = row.bytes;
  object["closed_form_bytes"] = row.closed_form;
  return object;
}

}  // namespace

int run_bench_ring(const RunArguments& run, const BenchArguments& bench) {
  return with_ranks(run, [&](Ranks& ranks, int threads) {
    const int members = ranks.ring->size();
    if (members < 2 || (members & (members - 1)) != 0 || members > kPageClasses || ranks.layout.tp != 1) {
      refuse(Radius::kStartup, {"bench ring", zoetrope::described(ranks.layout),
                                fmt::format("a ring of 2 to {} members, a power of two, without --tp", kPageClasses),
                                "start it as mpirun -n 2 zoetrope bench ring"});
    }
    ThreadPool pool(threads);
    set_fp_environment();
    const Compute compute{&body(run.body.empty() ? best_body() : body_named(run.body)), &pool, kLayout.precision};
    std::vector<std::int64_t> contexts{16384, 32768, 65536};
    if (bench.depth > 0) {
      contexts = {bench.depth};
    } else if (bench.quick) {
      contexts = {4096};
    }
    json::Array all;
    for (const std::int64_t context : contexts) {
      const std::int64_t tokens = std::min(bench.quick ? std::int64_t{128} : bench.tokens, context);
      const auto rows = measure(ranks, compute, run.ring_transport, context, tokens, bench.quick ? 1 : bench.reps);
      if (!ranks.leader()) {
        continue;
      }
      double flops = 0;
      for (std::int64_t token = context - tokens; token < context; ++token) {
        flops += static_cast<double>(token + 1) * kHeads * kLayout.head_dim * 4;
      }
      if (bench.json) {
        json::Array ways;
        for (const Row& row : rows) {
          ways.push_back(object_of(row));
        }
        json::Object object;
        object["context"] = context;
        object["tokens"] = tokens;
        object["flops"] = flops;
        object["ways"] = std::move(ways);
        all.push_back(std::move(object));
      } else {
        std::fputs(fmt::format("{} ranks, {} thread(s) each, {}, {} heads, {} KV heads of {}; {} ", members, threads,
                               compute.body->name, kHeads, kLayout.kv_heads, kLayout.head_dim, tokens)
                       .c_str(),
                   stdout);
        std::fputs(table(context, rows, flops).c_str(), stdout);
        std::fflush(stdout);
      }
    }
    const RingRates rates = measured_rates(*ranks.ring, compute, kLayout, kHeads);
    const std::int64_t context = contexts.front();
    std::vector<Crossover> steps;
    if (bench.depth == 0) {
      steps = cross(ranks, compute, rates, run.ring_transport, context, bench.quick ? 256 : 1024,
                    bench.quick ? 1 : bench.reps);
    }
    if (ranks.leader() && bench.json) {
      json::Object object;
      object["contexts"] = std::move(all);
      object["steps"] = array_of(steps);
      std::fputs((boost::json::serialize(object) + "\n").c_str(), stdout);
    } else if (ranks.leader()) {
      if (!steps.empty()) {
        std::fputs(table(rates, steps, context).c_str(), stdout);
      }
      std::fputs(traffic_table({{"world", &ranks.world->book()}, {"ring", &ranks.ring->book()}}).c_str(), stdout);
    }
    return 0;
  });
}

}  // namespace zoetrope
