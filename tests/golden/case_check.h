// Holds the model against one golden case: hidden states, router, vision outputs, logits, chunked prefill and 32 steps of
// continuation.
//   fp32: every tensor within 1e-4 of the reference's largest value, experts equal, the `certain` greedy ids equal.
//   bf16: every tensor no further from the fp32 reference than 1.5 times the reference's own bf16 is (root mean square);
//         on the forced fp32 continuation the same top token wherever the fp32 margin exceeds twice the reference's error.
//   both: logits of a chunked prefill equal those of the whole one bit for bit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/body.h"
#include "kernels/tensor.h"
#include "parallel/layout.h"

namespace zoetrope::test {

struct CaseResult {
  std::int64_t values_compared = 0;
  std::vector<std::string> failures;    // one line each, with the numbers
  double largest_fp32_error = 0;        // relative to the tensor's largest value, over all tensors
  double largest_bf16_ratio = 0;        // of our distance from fp32 to the reference's own, over all tensors
};

// Runs over `layout` as threads of this process, the sequence on the last member of the ring.
CaseResult check_case(const std::filesystem::path& goldens, const std::string& checkpoint, const std::string& case_name,
                      Precision precision, Layout layout);
CaseResult check_case(const std::filesystem::path& goldens, const std::string& checkpoint, const std::string& case_name,
                      Precision precision, Layout layout, BodyKind body);

}  // namespace zoetrope::test
