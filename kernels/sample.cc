// One row, one thread: the pool is never used, so many rows may be sampled in parallel by the pieces of a parallel_for.
#include "kernels/sample.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/body.h"
#include "kernels/candidates.h"
#include "kernels/vocabulary.h"
#include "monitoring/error.h"

namespace zoetrope {
namespace {

void check_settings(const SamplingSettings& s) {
  const auto within = [](const char* name, double found, double low, double high) {
    if (!(found >= low && found <= high)) {  // a NaN lies nowhere
      refuse(Radius::kRequest, {fmt::format("sampling setting {}", name), fmt::format("{}", found),
                                fmt::format("a number from {} to {}", low, high), "correct the setting"});
    }
  };
  within("temperature", s.temperature, 0.0, 1e6);
  within("top_k", s.top_k, 0, 1e9);
  within("top_p", s.top_p, 0.0, 1.0);
  within("min_p", s.min_p, 0.0, 1.0);
  within("repetition_penalty", s.repetition_penalty, 1e-3, 1e3);
  within("presence_penalty", s.presence_penalty, -1e6, 1e6);
  within("frequency_penalty", s.frequency_penalty, -1e6, 1e6);
  within("top_logprobs", s.top_logprobs, 0, 1e9);
}

void check_finite(const RowBody& row, std::span<const float> logits, const char* what, const char* remedy) {
  const std::int64_t found = row.first_not_finite(logits.data(), static_cast<std::int64_t>(logits.size()));
  if (found >= 0) {
    refuse(Radius::kRequest, {fmt::format("{} of token {}", what, found),
                              fmt::format("{}", logits[static_cast<std::size_t>(found)]), "a finite number", remedy});
  }
}

// HF's repetition penalty, then OpenAI's presence and frequency penalties.
void penalise(std::span<float> logits, std::span<const std::int32_t> prompt, std::span<const std::int32_t> generated,
              const SamplingSettings& s) {
  const auto at = [&](std::int32_t id) {
    check(id >= 0 && static_cast<std::size_t>(id) < logits.size(), "a token id outside the vocabulary");
    return static_cast<std::size_t>(id);
  };
  if (s.repetition_penalty != 1.0) {
    const auto penalty = static_cast<float>(s.repetition_penalty);
    std::vector<bool> seen(logits.size());
    for (const auto ids : {prompt, generated}) {
      for (const std::int32_t id : ids) {
        if (!seen[at(id)]) {
          seen[at(id)] = true;
          float& x = logits[at(id)];
          x = x < 0.0f ? x * penalty : x / penalty;
        }
      }
    }
  }
  if (s.presence_penalty != 0.0 || s.frequency_penalty != 0.0) {
    std::vector<std::int32_t> counts(logits.size());
    for (const std::int32_t id : generated) {
      ++counts[at(id)];
    }
    const auto presence = static_cast<float>(s.presence_penalty);
    const auto frequency = static_cast<float>(s.frequency_penalty);
    for (std::size_t id = 0; id < counts.size(); ++id) {
      if (counts[id] > 0) {
        logits[id] = logits[id] - static_cast<float>(counts[id]) * frequency - presence;
      }
    }
  }
}

bool changes_logits(const SamplingSettings& s) {
  return s.repetition_penalty != 1.0 || s.presence_penalty != 0.0 || s.frequency_penalty != 0.0 ||
         (s.temperature != 0.0 && s.temperature != 1.0);
}

// Penalties and temperature, in place.
void process(const RowBody& row, std::span<float> logits, std::span<const std::int32_t> prompt,
             std::span<const std::int32_t> generated, const SamplingSettings& s) {
  if (!changes_logits(s)) {
    return;
  }
  penalise(logits, prompt, generated, s);
  if (s.temperature != 0.0 && s.temperature != 1.0) {
    row.divide(logits.data(), static_cast<std::int64_t>(logits.size()), static_cast<float>(s.temperature));
  }
  check_finite(row, logits, "the logit, after penalties and temperature,",
               "raise the temperature or lower the penalties");
}

// The candidates that are left after all cuts; valid until this thread cuts the next row.
const Candidates& cut(const RowBody& row, std::span<const float> logits, const SamplingSettings& s) {
  thread_local Candidates kept;  // a buffer only
  top_k(row, logits, s.top_k, kept);
  if (s.top_p < 1.0) {
    keep_top_p(row, kept, s.top_p);
  }
  if (s.min_p > 0.0) {
    keep_min_p(kept, s.min_p);
  }
  return kept;
}

// A number in [0, 1) with 53 random bits, from (seed, position, choice) and nothing else.
double uniform(std::uint64_t seed, std::int64_t position, std::uint32_t choice) {
  const auto place = static_cast<std::uint64_t>(position);
  const auto words = philox({static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
                            {static_cast<std::uint32_t>(place), static_cast<std::uint32_t>(place >> 32), choice, 0});
  const std::uint64_t bits = (static_cast<std::uint64_t>(words[0]) << 32) | words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

// The first id at which the running weight passes u times the total. Slices are stepped over whole.
std::int32_t draw(const Candidates& kept, double u) {
  const SliceMasses masses = slice_masses(kept);
  const double target = u * tree_sum(masses.mass);
  double before = 0.0;
  for (std::size_t s = 0; s < kVocabularySlices; ++s) {
    if (before + masses.mass[s] > target) {
      double inside = 0.0;
      for (std::size_t i = masses.first[s]; i < masses.first[s + 1]; ++i) {
        inside += static_cast<double>(kept.weights[i]);
        if (before + inside > target) {
          return kept.ids[i];
        }
      }
    }
    before += masses.mass[s];
  }
  // The running sum may end a rounding below the tree's: the last token that has weight.
  std::size_t last = kept.ids.size() - 1;
  while (last > 0 && kept.weights[last] == 0.0f) {
    --last;
  }
  return kept.ids[last];
}

std::int32_t greedy(const RowBody& row, std::span<const float> logits) {
  return ids_at_least(row, logits, kth_largest(row, logits, 1)).front();
}

std::vector<TokenLogprob> most_likely(const RowBody& row, std::span<const float> logits, std::size_t count,
                                      const LogNormaliser& normaliser) {
  count = std::min(count, logits.size());
  std::vector<TokenLogprob> top;
  if (count == 0) {
    return top;
  }
  const auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::vector<std::int32_t> ids = ids_at_least(row, logits, kth_largest(row, logits, static_cast<std::int64_t>(count)));
  std::stable_sort(ids.begin(), ids.end(), [&](std::int32_t a, std::int32_t b) { return logit(a) > logit(b); });
  ids.resize(count);
  for (const std::int32_t id : ids) {
    top.push_back({id, normaliser.logprob(logit(id))});
  }
  return top;
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 2> key, std::array<std::uint32_t, 4> counter) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + 0x9E3779B9U, key[1] + 0xBB67AE85U};
  }
  return counter;
}

Sampled sample(const Compute& compute, std::span<float> logits, std::span<const std::int32_t> prompt,
               std::span<const std::int32_t> generated, std::int64_t position, const SamplingSettings& settings) {
  const RowBody& row = compute.body->row;
  check(!logits.empty(), "sampling from no logits");
  check(position >= 0, "sampling at a negative position");
  check_settings(settings);
  check_finite(row, logits, "the logit", "check the checkpoint and the input: the model computed no usable number");
  const LogNormaliser normaliser(row, logits);
  Sampled sampled;
  sampled.top = most_likely(row, logits, static_cast<std::size_t>(settings.top_logprobs), normaliser);

  thread_local std::vector<float> buffer;  // the model's own logits stay for the log-probability
  std::span<float> processed = logits;
  if (changes_logits(settings)) {
    buffer.assign(logits.begin(), logits.end());
    processed = buffer;
    process(row, processed, prompt, generated, settings);
  }
  sampled.token = settings.temperature == 0.0
                      ? greedy(row, processed)
                      : draw(cut(row, processed, settings), uniform(settings.seed, position, settings.choice));
  sampled.logprob = normaliser.logprob(logits[static_cast<std::size_t>(sampled.token)]);
  return sampled;
}

std::vector<float> sampling_distribution(std::span<float> logits, std::span<const std::int32_t> prompt,
                                         std::span<const std::int32_t> generated, const SamplingSettings& settings) {
  const RowBody& row = body(best_body()).row;
  check(!logits.empty(), "a distribution over no logits");
  check_settings(settings);
  check_finite(row, logits, "the logit", "check the checkpoint and the input: the model computed no usable number");
  process(row, logits, prompt, generated, settings);
  std::vector<float> probabilities(logits.size());
  if (settings.temperature == 0.0) {
    probabilities[static_cast<std::size_t>(greedy(row, logits))] = 1.0f;
    return probabilities;
  }
  const Candidates& kept = cut(row, logits, settings);
  const double total = tree_sum(slice_masses(kept).mass);
  for (std::size_t i = 0; i < kept.ids.size(); ++i) {
    probabilities[static_cast<std::size_t>(kept.ids[i])] =
        static_cast<float>(static_cast<double>(kept.weights[i]) / total);
  }
  return probabilities;
}

}  // namespace zoetrope
