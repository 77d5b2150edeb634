#include "runtime/engine/step_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/trace.h"

namespace zoetrope {
namespace {

// The chunks that lie in the same wave as the first one.
std::span<const Chunk> first_wave(std::span<const Chunk> chunks) {
  std::size_t count = 0;
  while (count < chunks.size() && chunks[count].wave == chunks.front().wave) {
    ++count;
  }
  return chunks.first(count);
}

}  // namespace

StepRunner::StepRunner(Model& model, Ranks& ranks, const Compute& compute, std::int32_t pages, RingTransport transport)
    : model_(model),
      ranks_(ranks),
      compute_(compute),
      cache_(model.kv_layout(), model.layers(), pages, ranks, transport),
      moves_(cache_, model.layers(), *ranks.ring, compute),
      rounds_(model, ranks, compute) {}

StepResult StepRunner::run(StepMessage& message) {
  StepResult result;
  {
    const Traced step(compute_.trace, TracePhase::kStep, static_cast<std::int32_t>(message.plan.step));
    execute(message, result);
  }
  std::ranges::transform(books_of(ranks_), result.counters.axes.begin(),
                         [](const NamedBook& axis) { return axis.book->total(); });
  std::ranges::transform(books_of(ranks_), result.counters.transfers.begin(),
                         [](const NamedBook& axis) { return axis.book->seconds(); });
  result.counters.forward_seconds = forward_seconds_;
  result.counters.attention_pairs = attention_pairs_;
  result.counters.pipe_wait_seconds = model_.pipe_wait_seconds();
  result.pending = rounds_.pending();
  result.counters.expert_rows = model_.expert_counts().answered;
  if (compute_.trace != nullptr) {
    result.trace = compute_.trace->take();  // nothing where spans are not kept
  }
  return result;
}

void StepRunner::execute(StepMessage& message, StepResult& result) {
  begin(message);
  rounds_.encode(message.plan, result);
  std::span<const Chunk> wave = first_wave(message.plan.chunks);
  for (std::span<const Chunk> rest = message.plan.chunks; !wave.empty();) {
    rest = rest.subspan(wave.size());
    const std::span<const Chunk> next = first_wave(rest);
    run_wave(wave, next, result);
    wave = next;
  }  // without chunks nobody has rows: every rank knows it from the plan
  moves_.finish();
}

void StepRunner::run_wave(std::span<const Chunk> wave, std::span<const Chunk> next, StepResult& result) {
  StepInputs inputs;
  std::vector<Chunk> own;
  visual_.clear();
  for (const Chunk& chunk : wave) {
    stage(chunk, inputs, own);
  }
  inputs.visual = {visual_.data(), static_cast<std::int64_t>(inputs.visual_rows.size()),
                   model_.stage().feature_columns.count()};
  for (const Chunk& chunk : next) {
    const Span& span = sequences_.at(chunk.id).span;
    if (span.contains(ranks_.place.member)) {
      inputs.next_rows +=
          span.rows_of(span.slot_of(ranks_.place.member), chunk.first_token, chunk.first_token + chunk.tokens);
    }
  }
  inputs.last_wave = next.empty();
  inputs.moves = &moves_;
  const std::int64_t vocabulary = model_.config().text.vocabulary;
  logits_.resize(inputs.logit_rows.size() * static_cast<std::size_t>(vocabulary));
  const auto begun = std::chrono::steady_clock::now();
  model_.forward(inputs, cache_, {logits_.data(), static_cast<std::int64_t>(inputs.logit_rows.size()), vocabulary});
  forward_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  if (ranks_.last_stage() && ranks_.place.tp_index == 0) {
    draw(own, result);
  }
}

bool StepRunner::sends_pages(const Span& span) const {
  return span.members > 1 && !span.on_one_host(hosts());
}

// Sequences that go, shrink and come.
void StepRunner::begin(StepMessage& message) {
  const StepPlan& plan = message.plan;
  for (const RequestId id : plan.releases) {
    rounds_.end(id);
    check(sequences_.erase(id) == 1, "a sequence was released that this rank does not know");
  }
  for (const Truncation& truncation : plan.truncations) {
    Sequence& sequence = sequences_.at(truncation.id);
    sequence.computed = truncation.tokens;
    sequence.pages.resize(static_cast<std::size_t>(div_ceil<std::int64_t>(truncation.tokens, kPageTokens)));
    sequence.generated.resize(static_cast<std::size_t>(
        std::max<std::int64_t>(0, truncation.tokens - static_cast<std::int64_t>(sequence.prompt.tokens.size()))));
  }
  for (std::size_t i = 0; i < plan.starts.size(); ++i) {
    Sequence sequence;
    sequence.prompt = std::move(message.payloads[i].prompt);
    sequence.sampling = message.payloads[i].sampling;
    const SequenceStart& start = plan.starts[i];
    sequence.span = start.span;
    sequence.pages = start.pages;
    sequence.computed = start.cached_tokens;
    if (start.copied_page >= 0 &&
        sequence.span.owner(static_cast<std::int64_t>(start.pages.size()) - 1) == ranks_.place.member) {
      cache_.copy_rows(start.copied_page, start.pages.back(), static_cast<int>(start.cached_tokens % kPageTokens));
    }
    const auto [at, fresh] = sequences_.emplace(start.id, std::move(sequence));
    check(fresh, "a sequence started twice");
    rounds_.begin(at->first, at->second.prompt, at->second.span);
  }
  for (const Growth& growth : plan.growths) {
    grow(growth, &growth != &plan.growths.back() || takes_what_is_left(growth, plan));
  }
}

// True when a chunk of the step is given the place of a page that the growth moves, which cannot be read under the step
// then: the planner has nothing else left.
bool StepRunner::takes_what_is_left(const Growth& growth, const StepPlan& plan) const {
  const Sequence& grown = sequences_.at(growth.id);
  std::set<std::pair<int, std::int32_t>> left;  // member, id
  for (std::size_t page = 0; page < grown.pages.size(); ++page) {
    const auto index = static_cast<std::int64_t>(page);
    if (const int from = grown.span.owner(index); from != growth.span.owner(index)) {
      left.emplace(from, grown.pages[page]);
    }
  }
  std::map<RequestId, std::int64_t> pages;  // of each sequence with those of the chunks before
  for (const Chunk& chunk : plan.chunks) {
    const Sequence& sequence = sequences_.at(chunk.id);
    const Span& span = chunk.id == growth.id ? growth.span : sequence.span;
    std::int64_t& next = pages.try_emplace(chunk.id, static_cast<std::int64_t>(sequence.pages.size())).first->second;
    for (const std::int32_t id : chunk.new_pages) {
      if (left.contains({span.owner(next++), id})) {
        return true;
      }
    }
  }
  return false;
}

// The pages that move travel under the step, a layer before it is needed; features that wait are needed at its
// beginning. `at_once`: all of it before anything else. Members that neither give nor take have no part in it.
void StepRunner::grow(const Growth& growth, bool at_once) {
  const Traced traced(compute_.trace, TracePhase::kGrow);
  Sequence& sequence = sequences_.at(growth.id);
  std::vector<PageMove> moves;
  for (std::size_t page = 0; page < sequence.pages.size(); ++page) {
    const auto index = static_cast<std::int64_t>(page);
    const int from = sequence.span.owner(index), to = growth.span.owner(index);
    if (from == to) {
      continue;
    }
    check(moves.size() < growth.pages.size(), "a growth names an id for every page that moves");
    const std::int32_t target = growth.pages[moves.size()];
    moves.push_back({.from = from,
                     .to = to,
                     .source = sequence.pages[page],
                     .target = target,
                     .written = (index + 1) * kPageTokens > sequence.computed});
    sequence.pages[page] = target;
  }
  check_eq(moves.size(), growth.pages.size(), "a growth names an id for every page that moves");
  rounds_.grow(growth.id, growth.span, sequence.computed);
  moves_.begin(growth.span, std::move(moves), at_once);
  if (at_once) {
    moves_.finish();
  }
  sequence.span = growth.span;
}

// Appends this member's rows of one chunk when it is in the span of the sequence.
void StepRunner::stage(const Chunk& chunk, StepInputs& inputs, std::vector<Chunk>& own) {
  Sequence& sequence = sequences_.at(chunk.id);
  check_eq(chunk.first_token, sequence.computed, "a chunk must follow what was computed before");
  for (const std::int32_t page : chunk.new_pages) {
    if (sequence.span.owner(static_cast<std::int64_t>(sequence.pages.size())) == ranks_.place.member) {
      cache_.open_page(page);
    }
    sequence.pages.push_back(page);
  }
  sequence.generated.insert(sequence.generated.end(), chunk.drawn_tokens.begin(), chunk.drawn_tokens.end());
  sequence.computed = chunk.first_token + chunk.tokens;
  if (!sequence.span.contains(ranks_.place.member)) {
    return;  // known all the same: the span may grow to this member
  }
  const auto prompt_tokens = static_cast<std::int64_t>(sequence.prompt.tokens.size());
  const auto first_row = static_cast<std::int64_t>(inputs.tokens.size());
  for (std::int64_t index = chunk.first_token; index < chunk.first_token + chunk.tokens; ++index) {
    if (!computes(sequence, index)) {
      continue;
    }
    attention_pairs_ += static_cast<std::uint64_t>(index + 1);
    const bool drawn = index >= prompt_tokens;
    inputs.tokens.push_back(drawn ? sequence.generated[static_cast<std::size_t>(index - prompt_tokens)]
                                  : sequence.prompt.tokens[static_cast<std::size_t>(index)]);
    const auto position = static_cast<std::int32_t>(index + sequence.prompt.rope_delta);
    inputs.positions.push_back(drawn ? Position{position, position, position}
                                     : sequence.prompt.positions[static_cast<std::size_t>(index)]);
    inputs.indices.push_back(index);
    inputs.slots.push_back(
        {sequence.pages[static_cast<std::size_t>(index / kPageTokens)], static_cast<int>(index % kPageTokens)});
  }
  SequenceRows rows;
  rows.first_row = first_row;
  rows.rows = static_cast<std::int64_t>(inputs.tokens.size()) - first_row;
  rows.span = sequence.span;
  if (rows.spans()) {
    rows.first_token = chunk.first_token;
    rows.tokens = chunk.tokens;
    rows.block_table = sequence.pages;
  }
  for (std::size_t page = 0; !rows.spans() && page < sequence.pages.size(); ++page) {
    const auto first = static_cast<std::int64_t>(page) * kPageTokens;
    rows.pages.push_back({sequence.pages[page], first, static_cast<int>(page % kPageClasses),
                          static_cast<int>(std::min<std::int64_t>(kPageTokens, sequence.computed - first))});
  }
  inputs.sequences.push_back(std::move(rows));
  rounds_.stage(chunk, first_row, inputs, visual_);
  for (const std::int64_t sampled : chunk.sampled) {
    if (computes(sequence, sampled) && ranks_.last_stage()) {
      inputs.logit_rows.push_back(first_row + sequence.span.rows_of(slot(sequence), chunk.first_token, sampled));
    }
  }
  own.push_back(chunk);
}

void StepRunner::draw(const std::vector<Chunk>& own, StepResult& result) {
  const Traced traced(compute_.trace, TracePhase::kDraw);
  const auto vocabulary = static_cast<std::size_t>(model_.config().text.vocabulary);
  std::size_t row = 0;
  for (const Chunk& chunk : own) {
    const Sequence& sequence = sequences_.at(chunk.id);
    for (const std::int64_t index : chunk.sampled) {
      if (!computes(sequence, index)) {
        continue;  // the member that computed the row draws
      }
      const std::span<float> logits(logits_.data() + row++ * vocabulary, vocabulary);
      const auto drawn = static_cast<std::size_t>(
          std::max<std::int64_t>(0, index + 1 - static_cast<std::int64_t>(sequence.prompt.tokens.size())));
      try {
        result.drawn.push_back(
            {chunk.id, sample(compute_, logits, sequence.prompt.tokens, std::span(sequence.generated).first(drawn),
                              index + 1, sequence.sampling)});
      } catch (const Error& error) {
        if (error.radius() != Radius::kRequest) {
          throw;
        }
        // The request fails as a whole; the plan wants a token of it all the same.
        result.failed.push_back(
            {chunk.id, fmt::format("{} (rank {} on {})", error.what(), ranks_.place.rank, ranks_.host_name)});
        result.drawn.push_back({chunk.id, {}});
      }
    }
  }
}

}  // namespace zoetrope
