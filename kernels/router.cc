#include "kernels/router.h"

#include <atomic>
#include <vector>

#include "kernels/body_table.h"
#include "kernels/row_pieces.h"

namespace zoetrope {
namespace {

// Keeps the k largest of `probabilities` in falling order, the lower index first where two are equal. True when the
// k-th and the best one left out are equal. A NaN never passes another number, so k different experts always come out.
bool choose_largest(std::span<const float> probabilities, std::span<std::int32_t> experts) {
  const std::size_t k = experts.size();
  float best_left_out = -1.0f;
  std::size_t kept = 0;
  for (std::size_t e = 0; e < probabilities.size(); ++e) {
    std::size_t place = kept;
    while (place > 0 && probabilities[e] > probabilities[static_cast<std::size_t>(experts[place - 1])]) {
      --place;
    }
    if (place == k) {
      best_left_out = std::max(best_left_out, probabilities[e]);
      continue;
    }
    if (kept == k) {
      best_left_out = std::max(best_left_out, probabilities[static_cast<std::size_t>(experts[k - 1])]);
    } else {
      ++kept;
    }
    for (std::size_t at = kept - 1; at > place; --at) {
      experts[at] = experts[at - 1];
    }
    experts[place] = static_cast<std::int32_t>(e);
  }
  return probabilities[static_cast<std::size_t>(experts[k - 1])] == best_left_out;
}

}  // namespace

std::int64_t choose_experts(const Compute& compute, Rows<const float> logits, Rows<std::int32_t> experts,
                            Rows<float> weights) {
  const std::int64_t k = experts.columns;
  check(k > 0 && k <= logits.columns && k <= kChosenExpertsMax, "how many experts a token takes");
  check_eq(experts.rows, logits.rows, "rows of chosen experts");
  check_eq(weights.rows, logits.rows, "rows of expert weights");
  check_eq(weights.columns, k, "columns of expert weights");
  std::atomic<std::int64_t> ties{0};
  over_rows(compute, logits.rows, 8 * logits.columns, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> probabilities(static_cast<std::size_t>(logits.columns));
    std::int64_t ties_here = 0;
    for (std::int64_t t = first; t < last; ++t) {
      compute.body->row.softmax(logits.row(t), probabilities.data(), logits.columns);
      ties_here += choose_largest(probabilities, {experts.row(t), static_cast<std::size_t>(k)}) ? 1 : 0;
      float total = 0.0f;
      for (std::int64_t j = 0; j < k; ++j) {
        total += probabilities[static_cast<std::size_t>(experts.row(t)[j])];
      }
      for (std::int64_t j = 0; j < k; ++j) {
        weights.row(t)[j] = probabilities[static_cast<std::size_t>(experts.row(t)[j])] / total;
      }
    }
    ties += ties_here;
  });
  return ties;
}

void combine_experts(const Compute& compute, Rows<const float> outputs, Rows<const std::int32_t> slots,
                     Rows<const std::int32_t> experts, Rows<const float> weights, Rows<float> out) {
  const std::int64_t k = slots.columns;
  check(k > 0 && k <= kChosenExpertsMax, "how many experts a token takes");
  check_eq(outputs.columns, out.columns, "columns of combined experts");
  for (const std::int64_t rows : {slots.rows, experts.rows, weights.rows}) {
    check_eq(rows, out.rows, "rows of combined experts");
  }
  check_eq(experts.columns, k, "columns of chosen experts");
  check_eq(weights.columns, k, "columns of expert weights");
  for (std::int64_t t = 0; t < slots.rows; ++t) {
    for (std::int64_t j = 0; j < k; ++j) {
      check(slots.row(t)[j] >= 0 && slots.row(t)[j] < outputs.rows, "a slot outside the experts' outputs");
    }
  }
  const CombineArgs args{outputs, slots, experts, weights, out};
  over_rows(compute, out.rows, k * out.columns,
            [&](std::int64_t first, std::int64_t last) { compute.body->row.combine(args, first, last); });
}

}  // namespace zoetrope
