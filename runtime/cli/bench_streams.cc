#include "runtime/cli/bench_streams.h"

#include <algorithm>
#include <span>

#include "kernels/sample.h"
#include "monitoring/check.h"

namespace zoetrope {

Streams::Streams(Model& model, int streams, std::int64_t tokens)
    : model_(model),
      pages_each_(static_cast<std::int32_t>(div_ceil<std::int64_t>(tokens, kPageTokens))),
      cache_(model.kv_layout(), model.layers(), std::max(1, streams * pages_each_)),
      streams_(streams) {
  for (std::int32_t page = 0; page < streams_ * pages_each_; ++page) {
    cache_.open_page(page);
  }
  if (model.stage().has_head) {
    logits_.resize(static_cast<std::size_t>(streams) * static_cast<std::size_t>(vocabulary()));
  }
}

void Streams::step(std::int64_t first, std::int64_t rows, std::int64_t next_rows) {
  StepInputs inputs;
  for (int stream = 0; stream < streams_; ++stream) {
    SequenceRows sequence{static_cast<std::int64_t>(inputs.tokens.size()), rows, {}};
    for (std::int64_t index = first; index < first + rows; ++index) {
      const auto position = static_cast<std::int32_t>(index);
      inputs.tokens.push_back(static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(vocabulary())));
      inputs.positions.push_back({position, position, position});
      inputs.indices.push_back(index);
      inputs.slots.push_back({page(stream, index), static_cast<int>(index % kPageTokens)});
    }
    for (std::int64_t at = 0; at < first + rows; at += kPageTokens) {
      sequence.pages.push_back({page(stream, at), at, static_cast<int>(at / kPageTokens % kPageClasses),
                                static_cast<int>(std::min<std::int64_t>(kPageTokens, first + rows - at))});
    }
    if (model_.stage().has_head && next_rows == 0) {
      inputs.logit_rows.push_back(static_cast<std::int64_t>(inputs.tokens.size()) - 1);
    }
    inputs.sequences.push_back(std::move(sequence));
  }
  inputs.next_rows = next_rows * streams_;
  inputs.last_wave = next_rows == 0;
  model_.forward(inputs, cache_, {logits_.data(), static_cast<std::int64_t>(inputs.logit_rows.size()), vocabulary()});
}

void Streams::draw(const Compute& compute, std::int64_t position) {
  SamplingSettings greedy;
  greedy.temperature = 0;
  const auto width = static_cast<std::size_t>(vocabulary());
  for (std::size_t at = 0; at < logits_.size(); at += width) {
    sample(compute, std::span(logits_).subspan(at, width), {}, {}, position, greedy);
  }
}

}  // namespace zoetrope
