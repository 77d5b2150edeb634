#include "kernels/candidates.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace zoetrope {
namespace {

// Grows with the number, equal for equal numbers: -0 counts as +0.
std::uint32_t order_key(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0f);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

// Candidates with a larger key stay, and `equal` of those with this key.
struct Cut {
  std::uint32_t key = 0;
  std::size_t equal = 0;
};

// Where, by falling key, the weight gone by reaches `target`: found digit by digit of the key (11, 11 and 10 bits),
// each time among those that share the digits before. No sort, so a flat distribution costs as little as a steep one.
Cut find_cut(const Candidates& c, std::vector<std::int32_t> inside, double target) {
  std::vector<double> mass(2048);
  std::vector<std::uint32_t> count(2048);
  double above = 0.0;
  std::uint32_t prefix = 0;
  for (const int shift : {21, 10, 0}) {
    const std::uint32_t digits = shift == 0 ? 1024 : 2048;
    std::fill(mass.begin(), mass.end(), 0.0);
    std::fill(count.begin(), count.end(), 0U);
    for (const std::int32_t place : inside) {
      const auto i = static_cast<std::size_t>(place);
      const std::uint32_t digit = (order_key(c.logits[i]) >> shift) & (digits - 1);
      mass[digit] += static_cast<double>(c.weights[i]);
      ++count[digit];
    }
    std::uint32_t chosen = 0;
    double above_chosen = above;
    for (std::uint32_t digit = digits; digit-- > 0;) {
      if (count[digit] == 0) {
        continue;
      }
      chosen = digit;  // the lowest that holds anything, should rounding keep the sum below the target
      above_chosen = above;
      above += mass[digit];
      if (above >= target) {
        break;
      }
    }
    above = above_chosen;
    prefix = prefix * digits + chosen;
    std::erase_if(inside, [&](std::int32_t place) {
      return (order_key(c.logits[static_cast<std::size_t>(place)]) >> shift) != prefix;
    });
  }
  const double weight = static_cast<double>(c.weights[static_cast<std::size_t>(inside.front())]);
  std::size_t equal = 1;
  while (equal < inside.size() && above + static_cast<double>(equal) * weight < target) {
    ++equal;
  }
  return {prefix, equal};
}

// Keeps candidate i where keep[i], in order.
void keep_where(Candidates& c, const std::vector<bool>& keep) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < c.ids.size(); ++i) {
    if (keep[i]) {
      c.ids[kept] = c.ids[i];
      c.logits[kept] = c.logits[i];
      c.weights[kept] = c.weights[i];
      ++kept;
    }
  }
  c.ids.resize(kept);
  c.logits.resize(kept);
  c.weights.resize(kept);
}

}  // namespace

void top_k(const RowBody& row, std::span<const float> logits, std::int64_t k, Candidates& c) {
  c.vocabulary = logits.size();
  if (k == 0 || k >= static_cast<std::int64_t>(logits.size())) {
    c.ids.resize(logits.size());
    std::iota(c.ids.begin(), c.ids.end(), 0);
    c.logits.assign(logits.begin(), logits.end());
  } else {
    c.ids = ids_at_least(row, logits, kth_largest(row, logits, k));
    c.logits.clear();
    for (const std::int32_t id : c.ids) {
      c.logits.push_back(logits[static_cast<std::size_t>(id)]);
    }
  }
  c.weights.resize(c.ids.size());
  row.slice_exp(c.logits.data(), static_cast<std::int64_t>(c.ids.size()), kth_largest(row, c.logits, 1),
                c.weights.data());
}

void keep_top_p(const RowBody& row, Candidates& candidates, double p) {
  const double total = tree_sum(slice_masses(candidates).mass);
  // All that weigh less than the n-th part of what may go cannot outweigh it together: they go, unseen.
  const double may_go = (1.0 - p) * total;
  const auto least = static_cast<float>(0.999 * may_go / static_cast<double>(candidates.ids.size()));
  const Cut cut = find_cut(candidates, ids_at_least(row, candidates.weights, least), p * total);
  std::vector<bool> keep(candidates.ids.size());
  std::size_t equal = cut.equal;
  for (std::size_t i = candidates.ids.size(); i-- > 0;) {
    const std::uint32_t key = order_key(candidates.logits[i]);
    if (key == cut.key && equal > 0) {
      keep[i] = true;
      --equal;
    } else {
      keep[i] = key > cut.key;
    }
  }
  keep_where(candidates, keep);
}

void keep_min_p(Candidates& candidates, double min_p) {
  const auto least = static_cast<float>(min_p);  // the heaviest weighs 1
  std::vector<bool> keep(candidates.ids.size());
  std::transform(candidates.weights.begin(), candidates.weights.end(), keep.begin(),
                 [&](float weight) { return weight >= least; });
  keep_where(candidates, keep);
}

SliceMasses slice_masses(const Candidates& candidates) {
  SliceMasses masses;
  std::size_t i = 0;
  for (std::size_t s = 0; s < kVocabularySlices; ++s) {
    const auto end = static_cast<std::int64_t>(vocabulary_slice(candidates.vocabulary, s + 1));
    masses.first[s] = i;
    for (; i < candidates.ids.size() && candidates.ids[i] < end; ++i) {
      masses.mass[s] += static_cast<double>(candidates.weights[i]);
    }
  }
  masses.first[kVocabularySlices] = i;
  return masses;
}

}  // namespace zoetrope
