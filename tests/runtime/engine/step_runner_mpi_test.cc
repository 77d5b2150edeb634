// The suite of step_runner_test.cc over real processes: mpirun starts it with any number of ranks; rank 0 prints, the
// others only what fails.
#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

#include "monitoring/error.h"
#include "tests/runtime/engine/sequences_suite.h"

namespace zoetrope::test {
namespace {

MpiJob* job = nullptr;

void run(const Layout& layout, const std::function<void(Ranks&)>& body) {
  Ranks ranks = job->ranks(layout);
  body(ranks);
}

// Every layout of so many ranks.
std::vector<Layout> layouts_of(int ranks) {
  std::vector<Layout> layouts;
  for (int pp = 1; pp <= ranks; pp *= 2) {
    for (int tp = 1; pp * tp <= ranks; tp *= 2) {
      layouts.push_back({.ring = ranks / pp / tp, .tp = tp, .pp = pp});
    }
  }
  return layouts;
}

TEST(StepRunnerMpi, OneAnswerInEveryLayoutByBothTransports) {
  const std::vector<Length> lengths{{1300, 3}, {300, 3}, {1, 2}};
  for (const Layout& layout : layouts_of(job->size())) {
    for (const RingTransport transport : {RingTransport::kMessages, RingTransport::kShared}) {
      if (transport == RingTransport::kShared && layout.ring == 1) {
        continue;
      }
      for (const char* checkpoint : {"tiny-dense", "tiny-moe"}) {
        Way how = way(layout, layout.ring);
        how.transport = transport;
        const bool experts = std::string(checkpoint) == "tiny-moe";
        how.precision = experts == (transport == RingTransport::kShared) ? Precision::kBf16 : Precision::kFp32;
        how.pass = experts ? RingPass::kPages : RingPass::kQueries;
        how.expert_groups = experts && layout.stage_ranks() > 1 && layout.tp > 1 ? layout.stage_ranks() / 2 : 0;
        expect_bits_of_one(run, checkpoint, how, lengths);
      }
    }
  }
}

TEST(StepRunnerMpi, OneAnswerInSpansThatGrow) {
  for (const Layout& layout : layouts_of(job->size())) {
    if (layout.ring > 1) {
      check_growths(run, layout);
    }
  }
}

// Prints what fails, with the rank, and nothing else.
class Quiet : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed()) {
      std::fprintf(stderr, "rank %d: %s:%d: %s\n", job->rank(), result.file_name() == nullptr ? "" : result.file_name(),
                   result.line_number(), result.message());
    }
  }
};

}  // namespace
}  // namespace zoetrope::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  zoetrope::MpiJob job;
  zoetrope::test::job = &job;
  if (job.rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new zoetrope::test::Quiet);
  }
  const int result = RUN_ALL_TESTS();
  if (result != 0) {
    job.fail("a rank failed its tests", result);
  }
  return 0;
}
