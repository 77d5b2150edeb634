#include "runtime/model/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/rotary.h"
#include "monitoring/check.h"
#include "monitoring/trace.h"
#include "parallel/collectives.h"
#include "parallel/ring_rates.h"
#include "runtime/model/page_moves.h"
#include "runtime/model/tp_gather.h"

namespace zoetrope {
namespace {

RotarySettings rotary_settings(const TextConfig& config) {
  const RopeConfig& rope = config.rope;
  return {.head_dim = config.head_dim,
          .theta = rope.theta,
          .mrope_section = rope.mrope_section,
          .yarn = rope.yarn,
          .factor = rope.factor,
          .original_positions = rope.original_positions,
          .beta_fast = rope.beta_fast,
          .beta_slow = rope.beta_slow,
          .truncate = rope.truncate,
          .attention_factor = rope.attention_factor};
}

void copy_row(const float* from, float* to, std::int64_t columns) {
  std::memcpy(to, from, static_cast<std::size_t>(columns) * sizeof(float));
}

// Indices of the entries of `rows` (ascending) that lie in `own`.
Range entries_in(const std::vector<std::int64_t>& rows, Range own) {
  return {.first = std::ranges::lower_bound(rows, own.first) - rows.begin(),
          .end = std::ranges::lower_bound(rows, own.end) - rows.begin()};
}

}  // namespace

Decoder::Decoder(const TextConfig& config, int deepstack, const TextWeights& weights, const Stage& stage,
                 const TextShard& shard, Ranks& ranks, const ExpertPlacement& experts, const Model::Options& options)
    : config_(config),
      deepstack_(deepstack),
      weights_(weights),
      stage_(stage),
      shard_(shard),
      ranks_(ranks),
      compute_(options.compute),
      observer_(options.observer),
      rms_eps_(static_cast<float>(config.rms_eps)),
      inv_freq_(rotary_frequencies(rotary_settings(config))),
      axes_(rotary_axes(rotary_settings(config))),
      ring_attention_(*ranks.ring, options.compute, kv_layout(), options.ring_pass,
                      measured_rates(*ranks.ring, options.compute, kv_layout(), static_cast<int>(shard.heads.count()))),
      hand_over_(ranks, config.hidden, div_ceil<std::int64_t>(options.shared_rows_max, ranks.layout.tp)) {
  if (config.moe()) {
    moe_.emplace(config_, compute_, ranks_, experts, observer_);
  }
}

KvLayout Decoder::kv_layout() const {
  return {.kv_heads = static_cast<int>(shard_.kv_heads.count()),
          .head_dim = config_.head_dim,
          .precision = compute_.precision};
}

void Decoder::forward(const StepInputs& inputs, KvCache& cache, Rows<float> logits) {
  const Traced traced(compute_.trace, TracePhase::kForward);
  check_inputs(inputs, logits);
  Step step = begin(inputs, cache);
  if (stage_.embeds) {
    embed_tokens(step);
    observe(step, "hidden.embed", step.h);
  }
  run_layers(step);
  if (stage_.has_head) {
    run_head(step, logits);
  }
  const Traced leaving(compute_.trace, TracePhase::kHandOver);
  hand_over_.end(inputs.last_wave);
}

void Decoder::check_inputs(const StepInputs& inputs, Rows<float> logits) const {
  const std::size_t rows = inputs.tokens.size();
  check_eq(inputs.positions.size(), rows, "a position for every token");
  check_eq(inputs.indices.size(), rows, "an index for every token");
  check_eq(inputs.slots.size(), rows, "a KV slot for every token");
  std::int64_t next = 0;
  for (const SequenceRows& sequence : inputs.sequences) {
    check_eq(sequence.first_row, next, "sequences lie one after the other");
    check(sequence.spans() || (sequence.rows > 0 && !sequence.pages.empty()),
          "a sequence of a step has rows and pages");
    next += sequence.rows;
  }
  check_eq(next, static_cast<std::int64_t>(rows), "every row belongs to a sequence");
  for (const std::vector<std::int64_t>* chosen : {&inputs.visual_rows, &inputs.logit_rows}) {
    check(std::ranges::is_sorted(*chosen, std::ranges::less_equal{}), "chosen rows ascend");
    check(chosen->empty() || (chosen->front() >= 0 && chosen->back() < next), "chosen rows are rows of the step");
  }
  check_eq(inputs.visual.rows, static_cast<std::int64_t>(inputs.visual_rows.size()),
           "a feature row for every visual row");
  check(inputs.visual_rows.empty() || inputs.visual.columns == stage_.feature_columns.count(),
        "features have their columns");
  check_eq(logits.rows, static_cast<std::int64_t>(inputs.logit_rows.size()), "a row of logits for every wanted row");
  check(logits.rows == 0 || stage_.has_head, "logits are asked of the last stage");
  check(logits.rows == 0 || logits.columns == config_.vocabulary, "logits have a column per token id");
}

Decoder::Step Decoder::begin(const StepInputs& inputs, KvCache& cache) {
  const RowStep rows = RowStep::of(static_cast<std::int64_t>(inputs.tokens.size()), *ranks_.tp);
  const Rows<float> cos = activations_.cos.shaped(rows.rows, config_.head_dim / 2);
  const Rows<float> sin = activations_.sin.shaped(rows.rows, config_.head_dim / 2);
  std::optional<Traced> arriving(std::in_place, compute_.trace, TracePhase::kHandOver);
  const Rows<float> h = hand_over_.begin(rows.own.count(), RowStep::of(inputs.next_rows, *ranks_.tp).own.count());
  arriving.reset();
  Step step{.inputs = inputs,
            .cache = cache,
            .rows = rows,
            .h = h,
            .normed = activations_.normed.shaped(rows.rows, config_.hidden),
            .cos = cos,
            .sin = sin,
            .visual = {},
            .first_visual = 0,
            .kept = {},
            .ring_opened = false};
  rotary_table(compute_, inputs.positions, inv_freq_, axes_, static_cast<float>(config_.rope.attention_factor), cos,
               sin);
  const Range visual = entries_in(inputs.visual_rows, rows.own);
  step.first_visual = visual.first;
  for (std::int64_t entry = visual.first; entry < visual.end; ++entry) {
    step.visual.push_back(inputs.visual_rows[static_cast<std::size_t>(entry)] - rows.own.first);
  }
  for (const SequenceRows& sequence : inputs.sequences) {
    if (sequence.spans()) {
      continue;
    }
    if (!step.kept.empty() && step.kept.back().end == sequence.first_row) {
      step.kept.back().end += sequence.rows;
    } else {
      step.kept.push_back({.first = sequence.first_row, .end = sequence.first_row + sequence.rows});
    }
  }
  return step;
}

// Own rows are selected straight from the whole table in the mapped checkpoint: a row is copied, never summed, and no
// rank reads more of the table than its tokens need (one-answer rule 2).
void Decoder::embed_tokens(const Step& step) {
  const auto ids =
      std::span(step.inputs.tokens)
          .subspan(static_cast<std::size_t>(step.rows.own.first), static_cast<std::size_t>(step.rows.own.count()));
  embed(compute_, weights_.embedding, ids, step.h);
  for (std::size_t i = 0; i < step.visual.size(); ++i) {
    copy_row(step.inputs.visual.row(step.first_visual + static_cast<std::int64_t>(i)), step.h.row(step.visual[i]),
             config_.hidden);
  }
}

void Decoder::run_layers(Step& step) {
  for (int local = 0; local < stage_.layers.count(); ++local) {
    const int layer = static_cast<int>(stage_.layers.first) + local;
    const TextLayerWeights& weights = weights_.layers[static_cast<std::size_t>(local)];
    attention_block(weights, local, step);
    poll(step);
    feed_forward(weights, layer, step);
    poll(step);
    add_deepstack(layer, step);
    if (observer_) {
      observe(step, fmt::format("hidden.layer.{}", layer), step.h);
    }
  }
}

// Messages under other work: rows for the neighbours in the pipeline, pages of spans that grow.
void Decoder::poll(const Step& step) {
  hand_over_.poll();
  if (step.inputs.moves != nullptr) {
    step.inputs.moves->poll();
  }
}

void Decoder::attention_block(const TextLayerWeights& weights, int local, Step& step) {
  const Traced traced(compute_.trace, TracePhase::kAttention, static_cast<int>(stage_.layers.first) + local);
  const int d = config_.head_dim;
  rms_norm(compute_, step.h, weights.input_norm, rms_eps_, own_normed(step));
  all_gather_rows(*ranks_.tp, step.normed, compute_.rounds(), "input of attention");

  const Rows<float> qkv = activations_.qkv.shaped(step.rows.rows, weights_.columns.total);
  matmul(compute_, {.x = step.normed, .w = weights.qkv, .out = qkv});
  const Rows<float> q = columns_of(qkv, weights_.columns.q, shard_.heads.count() * d);
  const Rows<float> k = columns_of(qkv, weights_.columns.k, shard_.kv_heads.count() * d);
  const Rows<float> v = columns_of(qkv, weights_.columns.v, shard_.kv_heads.count() * d);
  head_rms_norm(compute_, q, d, weights.q_norm, rms_eps_);
  head_rms_norm(compute_, k, d, weights.k_norm, rms_eps_);
  rotate(compute_, q, d, step.cos, step.sin);
  rotate(compute_, k, d, step.cos, step.sin);

  const Rows<float> attended = activations_.attended.shaped(step.rows.rows, q.columns);
  attend(step, local, q, k, v, attended);

  const Rows<float> partial = activations_.partial.shaped(step.rows.rows, config_.hidden);
  matmul(compute_, {.x = attended, .w = weights.o, .out = partial});
  tree_reduce_scatter_rows(*ranks_.tp, partial, "output of attention");
  const Rows<float> own = partial.slice(step.rows.own.first, step.rows.own.count());
  add_rows(compute_, step.h, own);
}

// Sequences that live here whole attend at once; those that span members with the others of their spans, when the pages
// that their spans have grown by are there.
void Decoder::attend(Step& step, int local, Rows<const float> q, Rows<const float> k, Rows<const float> v,
                     Rows<float> attended) {
  const RingPages pages = step.cache.ring_layer(local);
  for (const Range& run : step.kept) {
    append_kv(compute_, kv_layout(), pages.own, k.slice(run.first, run.count()), v.slice(run.first, run.count()),
              std::span(step.inputs.slots)
                  .subspan(static_cast<std::size_t>(run.first), static_cast<std::size_t>(run.count())));
  }
  std::vector<AttentionJob> jobs;
  std::vector<RingJob> ring_jobs;
  for (const SequenceRows& sequence : step.inputs.sequences) {
    const std::int64_t first = sequence.first_row, rows = sequence.rows;
    if (sequence.spans()) {
      ring_jobs.push_back({.span = sequence.span,
                           .first_token = sequence.first_token,
                           .tokens = sequence.tokens,
                           .block_table = sequence.block_table,
                           .q = q.slice(first, rows),
                           .k = k.slice(first, rows),
                           .v = v.slice(first, rows),
                           .out = attended.slice(first, rows)});
    } else {
      jobs.push_back(
          {.q = q.slice(first, rows),
           .positions =
               std::span(step.inputs.indices).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)),
           .pages = sequence.pages,
           .out = attended.slice(first, rows)});
    }
  }
  Compute computing = compute_;
  computing.between = step.inputs.moves != nullptr ? step.inputs.moves->between() : nullptr;
  attention(computing, kv_layout(), pages.own, jobs);
  if (step.inputs.moves != nullptr) {
    step.inputs.moves->arrive(local);
  }
  if (!ring_jobs.empty()) {
    const Traced traced(compute_.trace, TracePhase::kRing);
    ring_attention_.run(pages, static_cast<int>(shard_.heads.count()), ring_jobs,
                        !std::exchange(step.ring_opened, true));
  }
}

void Decoder::feed_forward(const TextLayerWeights& weights, int layer, Step& step) {
  const auto* dense = std::get_if<DenseWeights>(&weights.feed_forward);
  rms_norm(compute_, step.h, weights.post_norm, rms_eps_, dense != nullptr ? own_normed(step) : moe_->input(step.rows));
  if (dense != nullptr) {
    const Traced traced(compute_.trace, TracePhase::kFeedForward, layer);
    dense_feed_forward(compute_, *ranks_.tp, *dense, step.rows, activations_, step.normed, step.h);
  } else {
    moe_->run(layer, std::get<MoeWeights>(weights.feed_forward), step.rows, activations_, step.h);
  }
}

// Feature K joins the visual rows behind layer K (reference 4.4).
void Decoder::add_deepstack(int layer, Step& step) {
  if (layer >= deepstack_ || step.visual.empty()) {
    return;
  }
  const Rows<const float> features =
      step.inputs.visual.slice(step.first_visual, static_cast<std::int64_t>(step.visual.size()));
  const std::int64_t first = (1 + layer) * config_.hidden - stage_.feature_columns.first;
  add_selected_rows(compute_, step.h, step.visual, columns_of(features, first, config_.hidden));
}

void Decoder::run_head(Step& step, Rows<float> logits) {
  const Traced traced(compute_.trace, TracePhase::kHead);
  const Rows<float> normed = own_normed(step);
  rms_norm(compute_, step.h, weights_.norm, rms_eps_, normed);
  observe(step, "hidden.norm", normed);

  // The wanted rows, each from the rank it was dealt to.
  const std::vector<std::int64_t>& wanted = step.inputs.logit_rows;
  const Rows<float> last = activations_.last.shaped(logits.rows, config_.hidden);
  std::vector<Range> row_blocks;
  std::vector<Range> vocabulary_blocks;
  for (int rank = 0; rank < ranks_.tp->size(); ++rank) {
    row_blocks.push_back(entries_in(wanted, dealt(step.rows.rows, rank, ranks_.tp->size())));
    vocabulary_blocks.push_back(vocabulary_shard(config_.vocabulary, rank, ranks_.tp->size()));
  }
  const Range own = row_blocks[static_cast<std::size_t>(ranks_.tp->rank())];
  for (std::int64_t entry = own.first; entry < own.end; ++entry) {
    copy_row(step.normed.row(wanted[static_cast<std::size_t>(entry)]), last.row(entry), config_.hidden);
  }
  gather_row_blocks(*ranks_.tp, last, row_blocks, "rows of the head");
  matmul(
      compute_,
      {.x = last, .w = weights_.head, .out = columns_of(logits, shard_.vocabulary.first, shard_.vocabulary.count())});
  gather_column_blocks(
      *ranks_.tp, logits, vocabulary_blocks,
      [this](std::int64_t rows, std::int64_t width) { return activations_.head.shaped(rows, width); },
      "logits of the vocabulary's parts");
}

void Decoder::observe(const Step& step, std::string_view name, Rows<const float> own) const {
  observe_rows(observer_, *ranks_.tp, step.rows, name, own);
}

}  // namespace zoetrope
