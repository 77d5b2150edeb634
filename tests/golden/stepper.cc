#include "tests/golden/stepper.h"

#include <algorithm>
#include <cstring>

#include "monitoring/check.h"

namespace zoetrope::test {
namespace {

constexpr std::int32_t kPageStep = 7;  // page ids are handed out 0, 7, 14, ... modulo the number of pages

}  // namespace

Stepper::Stepper(Model& model, std::int32_t pages)
    : model_(model),
      cache_(model.kv_layout(), model.layers(), pages % kPageStep == 0 ? pages + 1 : pages),
      pages_(pages % kPageStep == 0 ? pages + 1 : pages) {}

std::int32_t Stepper::open_page() {
  check(opened_ < pages_, "the test's cache has a page left");
  const auto page = static_cast<std::int32_t>(std::int64_t{opened_++} * kPageStep % pages_);
  for (int layer = 0; layer < model_.layers(); ++layer) {  // what another tenant might have left: NaN everywhere
    std::memset(cache_.layer(layer).page(page), 0xff, cache_.layout().page_bytes());
  }
  cache_.open_page(page);
  return page;
}

void Stepper::add(const Part& part, StepInputs& inputs) {
  TestSequence& s = *part.sequence;
  const std::int64_t first = s.done;
  const std::int64_t end = first + part.tokens;
  const auto row = static_cast<std::int64_t>(inputs.tokens.size());
  SequenceRows rows{.first_row = row, .rows = part.tokens, .pages = {}};
  while (static_cast<std::int64_t>(s.pages.size()) * kPageTokens < end) {
    s.pages.push_back(open_page());
  }
  for (std::int64_t i = first; i < end; ++i) {
    const auto at = static_cast<std::size_t>(i);
    inputs.tokens.push_back(s.tokens.at(at));
    inputs.positions.push_back(s.positions.at(at));
    inputs.indices.push_back(i);
    inputs.slots.push_back({.page_id = s.pages[at / kPageTokens], .row = static_cast<int>(i % kPageTokens)});
    if (model_.stage().has_head) {
      inputs.logit_rows.push_back(row + i - first);
    }
  }
  for (std::size_t page = 0; page < s.pages.size(); ++page) {
    const auto position = static_cast<std::int64_t>(page) * kPageTokens;
    rows.pages.push_back({.page_id = s.pages[page],
                          .first_position = position,
                          .page_class = static_cast<int>(page % kPageClasses),
                          .valid_rows = static_cast<int>(std::min<std::int64_t>(kPageTokens, end - position))});
  }
  const std::int64_t columns = model_.feature_columns();
  const Range own = model_.stage().feature_columns;
  for (std::size_t v = 0; v < s.visual_tokens.size(); ++v) {
    if (s.visual_tokens[v] >= first && s.visual_tokens[v] < end) {
      inputs.visual_rows.push_back(row + s.visual_tokens[v] - first);
      const auto* features = s.visual.data() + static_cast<std::int64_t>(v) * columns;
      visual_.insert(visual_.end(), features + own.first, features + own.end);
    }
  }
  inputs.sequences.push_back(std::move(rows));
  s.done = end;
}

std::vector<float> Stepper::step(std::span<const Part> parts) {
  StepInputs inputs;
  visual_.clear();
  for (const Part& part : parts) {
    add(part, inputs);
  }
  inputs.visual = {visual_.data(), static_cast<std::int64_t>(inputs.visual_rows.size()),
                   model_.stage().feature_columns.count()};
  const std::int64_t vocabulary = model_.config().text.vocabulary;
  std::vector<float> logits(inputs.logit_rows.size() * static_cast<std::size_t>(vocabulary));
  model_.forward(inputs, cache_, {logits.data(), static_cast<std::int64_t>(inputs.logit_rows.size()), vocabulary});
  return logits;
}

std::vector<float> Stepper::step(TestSequence& sequence, std::int64_t tokens) {
  const Part part{.sequence = &sequence, .tokens = tokens};
  return step({&part, 1});
}

}  // namespace zoetrope::test
