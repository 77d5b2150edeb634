#include "runtime/engine/step_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "parallel/bf16_wire.h"

namespace zoetrope {
namespace {

// Patches that go through the vision tower together: enough rows to keep the kernels busy, bounded memory.
constexpr std::int64_t kVisionBatchPatches = 4096;
constexpr std::int64_t kPatchValues = 1536;  // 3 channels x 2 frames x 16 x 16

std::int64_t patches_of(const Prompt& prompt, std::int32_t unit) {
  const Medium& medium = prompt.media[static_cast<std::size_t>(prompt.units[static_cast<std::size_t>(unit)].medium)];
  return static_cast<std::int64_t>(medium.grid.h) * medium.grid.w;
}

}  // namespace

StepRunner::StepRunner(Model& model, Ranks& ranks, const Compute& compute, std::int32_t pages, RingTransport transport)
    : model_(model), ranks_(ranks), compute_(compute), cache_(model.kv_layout(), model.layers(), pages, ranks, transport) {}

StepResult StepRunner::run(const StepMessage& message) {
  StepResult result;
  begin(message);
  const auto started = std::chrono::steady_clock::now();
  encode(message.plan, result);
  result.encode_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (message.plan.chunks.empty()) {
    return result;  // nobody has rows: every rank knows it from the plan
  }
  StepInputs inputs;
  std::vector<Chunk> own;
  visual_.clear();
  for (const Chunk& chunk : message.plan.chunks) {
    stage(chunk, inputs, own);
  }
  inputs.visual = {visual_.data(), static_cast<std::int64_t>(inputs.visual_rows.size()), model_.feature_columns()};
  const std::int64_t vocabulary = model_.config().text.vocabulary;
  logits_.resize(inputs.logit_rows.size() * static_cast<std::size_t>(vocabulary));
  model_.forward(inputs, cache_, {logits_.data(), static_cast<std::int64_t>(inputs.logit_rows.size()), vocabulary});
  if (ranks_.place.tp_index == 0) {
    draw(own, result);
  }
  return result;
}

// Sequences that go, shrink and come.
void StepRunner::begin(const StepMessage& message) {
  const StepPlan& plan = message.plan;
  for (const RequestId id : plan.releases) {
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
    sequence.prompt = message.payloads[i].prompt;
    sequence.sampling = message.payloads[i].sampling;
    sequence.span = plan.starts[i].span;
    check(sequences_.emplace(plan.starts[i].id, std::move(sequence)).second, "a sequence started twice");
  }
}

// Units are dealt over all ranks in contiguous runs of about equal numbers of patches.
std::vector<StepRunner::Encoded> StepRunner::deal(const std::vector<EncodeUnit>& units) const {
  std::vector<Encoded> dealt;
  std::int64_t total = 0;
  for (const EncodeUnit& unit : units) {
    const Prompt& prompt = sequences_.at(unit.id).prompt;
    dealt.push_back({unit.id, unit.unit, 0, prompt.units[static_cast<std::size_t>(unit.unit)].tokens});
    total += dealt.back().tokens;
  }
  std::int64_t before = 0;
  for (Encoded& unit : dealt) {
    // The rank in whose share the middle of the unit falls.
    unit.rank = static_cast<int>((2 * before + unit.tokens) * ranks_.world->size() / (2 * std::max<std::int64_t>(total, 1)));
    before += unit.tokens;
  }
  return dealt;
}

void StepRunner::encode(const StepPlan& plan, StepResult& result) {
  if (plan.encode.empty()) {
    return;
  }
  const std::vector<Encoded> dealt = deal(plan.encode);
  std::vector<std::vector<float>> rows(dealt.size());
  encode_own(dealt, rows, result);
  exchange_features(dealt, rows);
}

void StepRunner::encode_own(const std::vector<Encoded>& dealt, std::vector<std::vector<float>>& rows, StepResult& result) {
  const std::int64_t columns = model_.feature_columns();
  std::vector<std::size_t> mine;
  for (std::size_t i = 0; i < dealt.size(); ++i) {
    if (dealt[i].rank == ranks_.place.rank) {
      mine.push_back(i);
    }
  }
  const auto grid_of = [&](std::size_t i) {
    const Prompt& prompt = sequences_.at(dealt[i].id).prompt;
    return prompt.media[static_cast<std::size_t>(prompt.units[static_cast<std::size_t>(dealt[i].unit)].medium)].grid;
  };
  for (std::size_t at = 0; at < mine.size();) {
    const Grid grid = grid_of(mine[at]);
    const std::int64_t each = static_cast<std::int64_t>(grid.h) * grid.w;
    std::size_t end = at;
    while (end < mine.size() && grid_of(mine[end]).h == grid.h && grid_of(mine[end]).w == grid.w &&
           (end == at || static_cast<std::int64_t>(end - at + 1) * each <= kVisionBatchPatches)) {
      ++end;
    }
    const auto units = static_cast<std::int64_t>(end - at);
    patches_.resize(static_cast<std::size_t>(units * each * kPatchValues));
    for (std::size_t i = at; i < end; ++i) {
      const Encoded& unit = dealt[mine[i]];
      const std::span<float> out(patches_.data() + static_cast<std::int64_t>(i - at) * each * kPatchValues,
                                 static_cast<std::size_t>(each * kPatchValues));
      check_eq(patches_of(sequences_.at(unit.id).prompt, unit.unit), each, "units of one batch have one size");
      try {
        reader_.read(sequences_.at(unit.id).prompt, unit.unit, out);
      } catch (const Error& error) {
        if (error.radius() != Radius::kRequest) {
          throw;
        }
        // The request fails as a whole; its rows of this step are computed on zeros and thrown away.
        std::fill(out.begin(), out.end(), 0.0f);
        result.failed.push_back({unit.id, fmt::format("{} (rank {} on {})", error.what(), ranks_.place.rank, ranks_.host_name)});
      }
    }
    std::vector<float> features(static_cast<std::size_t>(units * each / 4 * columns));
    model_.encode({{patches_.data(), units * each, kPatchValues}, static_cast<int>(units), grid.h, grid.w},
                  {features.data(), units * each / 4, columns});
    for (std::size_t i = at; i < end; ++i) {
      const auto first = features.begin() + static_cast<std::int64_t>(i - at) * each / 4 * columns;
      rows[mine[i]].assign(first, first + each / 4 * columns);
    }
    at = end;
  }
}

// Features travel to the ranks that compute their tokens, as they travel everywhere (bf16_wire.h).
void StepRunner::exchange_features(const std::vector<Encoded>& dealt, std::vector<std::vector<float>>& rows) {
  const bool as_bf16 = compute_.rounds();
  const auto own = ranks_.place.rank;
  const auto size = static_cast<std::size_t>(ranks_.world->size());
  const std::int64_t columns = model_.feature_columns();
  // Rows of the unit that `rank` needs, as runs of its tokens.
  const auto runs_for = [&](const Encoded& unit, int rank) {
    const Sequence& sequence = sequences_.at(unit.id);
    const std::int64_t first = sequence.prompt.units[static_cast<std::size_t>(unit.unit)].first_token;
    const int member = place_of(ranks_.layout, rank).member;
    std::vector<Range> runs;
    for (std::int64_t token = 0; token < unit.tokens; ++token) {
      if (sequence.span.computes(first + token) != member) {
        continue;
      }
      if (runs.empty() || runs.back().end != token) {
        runs.push_back({token, token});
      }
      ++runs.back().end;
    }
    return runs;
  };
  const auto values_of = [&](const std::vector<Range>& runs) {
    std::int64_t tokens = 0;
    for (const Range& run : runs) {
      tokens += run.count();
    }
    return tokens * columns;
  };
  const auto bytes_of = [&](std::int64_t values) { return static_cast<std::size_t>(values) * (as_bf16 ? sizeof(Bf16) : sizeof(float)); };
  std::vector<std::vector<std::byte>> outgoing(size), incoming(size);
  for (std::size_t i = 0; i < dealt.size(); ++i) {
    const Encoded& unit = dealt[i];
    for (int rank = 0; rank < ranks_.world->size(); ++rank) {
      if (rank == own || unit.rank != own) {
        continue;
      }
      auto& out = outgoing[static_cast<std::size_t>(rank)];
      for (const Range& run : runs_for(unit, rank)) {
        const std::int64_t values = run.count() * columns;
        out.resize(out.size() + bytes_of(values));
        to_wire(rows[i].data() + run.first * columns, values, as_bf16, out.data() + out.size() - bytes_of(values));
      }
    }
    if (unit.rank != own) {
      auto& in = incoming[static_cast<std::size_t>(unit.rank)];
      in.resize(in.size() + bytes_of(values_of(runs_for(unit, own))));
    }
  }
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (std::size_t rank = 0; rank < size; ++rank) {
    if (!outgoing[rank].empty()) {
      sends.push_back({static_cast<int>(rank), outgoing[rank]});
    }
    if (!incoming[rank].empty()) {
      receives.push_back({static_cast<int>(rank), incoming[rank]});
    }
  }
  ranks_.world->exchange(sends, receives, "visual features to their owners");
  std::vector<std::size_t> read(size, 0);
  for (std::size_t i = 0; i < dealt.size(); ++i) {
    const Encoded& unit = dealt[i];
    const std::vector<Range> runs = runs_for(unit, own);
    if (runs.empty()) {
      continue;
    }
    const std::int64_t values = values_of(runs);
    std::vector<float>& kept = sequences_.at(unit.id).features[unit.unit].rows;
    if (unit.rank != own) {
      const auto from = static_cast<std::size_t>(unit.rank);
      kept.resize(static_cast<std::size_t>(values));
      from_wire(incoming[from].data() + read[from], values, as_bf16, kept.data());
      read[from] += bytes_of(values);
    } else if (runs.front().count() == unit.tokens) {
      kept = std::move(rows[i]);
    } else {
      for (const Range& run : runs) {
        kept.insert(kept.end(), rows[i].begin() + run.first * columns, rows[i].begin() + run.end * columns);
      }
    }
  }
}

// Appends this member's rows of one chunk when it is in the span of the sequence.
void StepRunner::stage(const Chunk& chunk, StepInputs& inputs, std::vector<Chunk>& own) {
  Sequence& sequence = sequences_.at(chunk.id);
  if (!sequence.span.contains(ranks_.place.member)) {
    return;
  }
  check_eq(chunk.first_token, sequence.computed, "a chunk must follow what was computed before");
  for (const std::int32_t page : chunk.new_pages) {
    if (sequence.span.owner(static_cast<std::int64_t>(sequence.pages.size())) == ranks_.place.member) {
      cache_.open_page(page);
    }
    sequence.pages.push_back(page);
  }
  sequence.generated.insert(sequence.generated.end(), chunk.drawn_tokens.begin(), chunk.drawn_tokens.end());
  const auto prompt_tokens = static_cast<std::int64_t>(sequence.prompt.tokens.size());
  const auto first_row = static_cast<std::int64_t>(inputs.tokens.size());
  for (std::int64_t index = chunk.first_token; index < chunk.first_token + chunk.tokens; ++index) {
    if (!computes(sequence, index)) {
      continue;
    }
    const bool drawn = index >= prompt_tokens;
    inputs.tokens.push_back(drawn ? sequence.generated[static_cast<std::size_t>(index - prompt_tokens)]
                                  : sequence.prompt.tokens[static_cast<std::size_t>(index)]);
    const auto position = static_cast<std::int32_t>(index + sequence.prompt.rope_delta);
    inputs.positions.push_back(drawn ? Position{position, position, position}
                                     : sequence.prompt.positions[static_cast<std::size_t>(index)]);
    inputs.indices.push_back(index);
    inputs.slots.push_back({sequence.pages[static_cast<std::size_t>(index / kPageTokens)],
                            static_cast<int>(index % kPageTokens)});
  }
  sequence.computed = chunk.first_token + chunk.tokens;
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
  stage_visual(sequence, chunk, first_row, inputs);
  for (const std::int64_t sampled : chunk.sampled) {
    if (computes(sequence, sampled)) {
      inputs.logit_rows.push_back(first_row + sequence.span.rows_of(slot(sequence), chunk.first_token, sampled));
    }
  }
  own.push_back(chunk);
}

// Rows of the chunk that hold visual features; features whose last token has been staged are given up.
void StepRunner::stage_visual(Sequence& sequence, const Chunk& chunk, std::int64_t first_row, StepInputs& inputs) {
  const std::int64_t columns = model_.feature_columns();
  const std::int64_t end = chunk.first_token + chunk.tokens;
  for (auto at = sequence.features.begin(); at != sequence.features.end();) {
    const VisualUnit& unit = sequence.prompt.units[static_cast<std::size_t>(at->first)];
    const std::int64_t from = std::max(unit.first_token, chunk.first_token);
    const std::int64_t to = std::min(unit.first_token + unit.tokens, end);
    for (std::int64_t token = from; token < to; ++token) {
      if (computes(sequence, token)) {
        inputs.visual_rows.push_back(first_row + sequence.span.rows_of(slot(sequence), chunk.first_token, token));
      }
    }
    if (from < to) {
      const auto row_of = [&](std::int64_t token) { return sequence.span.rows_of(slot(sequence), unit.first_token, token) * columns; };
      const float* rows = at->second.rows.data();
      visual_.insert(visual_.end(), rows + row_of(from), rows + row_of(to));
    }
    at = unit.first_token + unit.tokens <= end ? sequence.features.erase(at) : std::next(at);
  }
}

void StepRunner::draw(const std::vector<Chunk>& own, StepResult& result) {
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
        result.drawn.push_back({chunk.id, sample(compute_, logits, sequence.prompt.tokens,
                                                 std::span(sequence.generated).first(drawn), index + 1, sequence.sampling)});
      } catch (const Error& error) {
        if (error.radius() != Radius::kRequest) {
          throw;
        }
        // The request fails as a whole; the plan wants a token of it all the same.
        result.failed.push_back({chunk.id, fmt::format("{} (rank {} on {})", error.what(), ranks_.place.rank, ranks_.host_name)});
        result.drawn.push_back({chunk.id, {}});
      }
    }
  }
}

}  // namespace zoetrope
