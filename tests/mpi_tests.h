// The tests of a program that runs under MPI: rank 0 prints as ever, the other ranks what fails and nothing else.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>

#include "parallel/ranks.h"

namespace zoetrope::test {

class PrintsFailuresOfRank : public testing::EmptyTestEventListener {
 public:
  explicit PrintsFailuresOfRank(int rank) : rank_(rank) {}

 private:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed()) {
      std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name() == nullptr ? "" : result.file_name(),
                   result.line_number(), result.message());
    }
  }

  int rank_;
};

// After testing::InitGoogleTest. A failure at any rank ends the job with it.
inline int run_tests(MpiJob& job) {
  if (job.rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new PrintsFailuresOfRank(job.rank()));
  }
  const int result = RUN_ALL_TESTS();
  if (result != 0) {
    job.fail("a rank failed its tests", result);
  }
  return 0;
}

}  // namespace zoetrope::test
