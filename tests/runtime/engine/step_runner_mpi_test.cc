// The suite of step_runner_test.cc over real processes: mpirun starts it with any number of ranks; rank 0 prints, the
// others only what fails.
#include <gtest/gtest.h>

#include <vector>

#include "monitoring/error.h"
#include "tests/mpi_tests.h"
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

}  // namespace
}  // namespace zoetrope::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  zoetrope::MpiJob job;
  zoetrope::test::job = &job;
  return zoetrope::test::run_tests(job);
}
