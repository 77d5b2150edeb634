// The tokens that are still in the draw, and the cuts that throw others out, in the reference's order: top-k, top-p,
// min-p (reference 7.3).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/vocabulary.h"

namespace zoetrope {

struct Candidates {
  std::vector<std::int32_t> ids;  // increasing, never empty
  std::vector<float> logits;
  std::vector<float> weights;  // e^(logit - largest logit)
  std::size_t vocabulary = 0;
};

// Everything not below the k-th largest logit; k = 0 keeps all. What `candidates` held before is forgotten: its memory
// is used again, which saves a large vocabulary's page faults.
void top_k(const RowBody& row, std::span<const float> logits, std::int64_t k, Candidates& candidates);

// Walks the candidates by falling logit, among equal logits the higher id first, and drops those before which p of the
// whole weight has gone by. The first stays.
void keep_top_p(const RowBody& row, Candidates& candidates, double p);

// Drops what weighs less than min_p of the heaviest.
void keep_min_p(Candidates& candidates, double min_p);

// Weight by canonical slice, each summed in double in id order. Candidates [first[s], first[s + 1]) are those of slice
// s.
struct SliceMasses {
  std::array<double, kVocabularySlices> mass{};
  std::array<std::size_t, kVocabularySlices + 1> first{};
};
SliceMasses slice_masses(const Candidates& candidates);

}  // namespace zoetrope
