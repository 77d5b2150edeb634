// A job that exchanges until something happens to it: lost_rank_program MODE DEADLINE_MS. Modes:
//   loop       barriers for ever; the test kills or stops a rank
//   pipe       waves go from rank to rank for ever
//   fail-one   rank 1 fails after a while
//   fail-all   every rank fails at the same moment, with the same message
//   drop-one   rank 1 fails with an exchange under way, and says so a moment later than the others see it end
//   abort-one  rank 1 tells the others to stop, then goes on
//   end        ends well
//   stop-start rank 1 is stopped by a signal while MPI starts
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "parallel/collectives.h"
#include "parallel/hand_over.h"
#include "parallel/ranks.h"

namespace {

constexpr itimerval kNever{};

// Every rank is a stage of a pipeline.
void hand_over_for_ever(zoetrope::MpiJob& job, std::chrono::milliseconds deadline) {
  zoetrope::Ranks ranks = job.ranks({.pp = job.size()});
  ranks.world->set_deadline(deadline);
  zoetrope::HandOver pipe(ranks, 64, 100);
  std::printf("ready %d %d\n", job.rank(), ::getpid());
  std::fflush(stdout);
  for (int wave = 0;; ++wave) {
    pipe.begin(100, 100);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    pipe.end(false);
  }
}

void run(zoetrope::MpiJob& job, std::string_view mode, std::chrono::milliseconds deadline) {
  if (mode == "pipe") {
    hand_over_for_ever(job, deadline);
  }
  zoetrope::Ranks ranks = job.ranks({.ring = job.size()});
  ranks.world->set_deadline(deadline);
  std::printf("ready %d %d\n", job.rank(), ::getpid());
  std::fflush(stdout);
  for (int step = 0; mode != "end" || step < 20; ++step) {
    zoetrope::barrier(*ranks.world, "the loop of the test");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (step == 50 && ((mode == "fail-one" && job.rank() == 1) || mode == "fail-all")) {
      throw std::runtime_error("the checkpoint is not there");
    }
    if (step == 50 && mode == "drop-one" && job.rank() == 1) {
      std::byte byte{};
      const zoetrope::ReceivePart part{2, {&byte, 1}};
      const zoetrope::Exchange under_way = ranks.world->post({}, {&part, 1}, "never sent");
      throw std::bad_alloc();
    }
    if (step == 50 && mode == "abort-one" && job.rank() == 1) {
      ranks.world->abort("the watchdog bit");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: lost_rank_program MODE DEADLINE_MS\n", stderr);
    return 2;
  }
  if (std::string_view(argv[1]) == "stop-start" && zoetrope::MpiJob::launched_rank() == 1) {
    ::signal(SIGALRM, [](int) {
      if (::waitpid(-1, nullptr, WNOHANG) == 0) {  // its guardian is there
        ::setitimer(ITIMER_REAL, &kNever, nullptr);
        ::raise(SIGSTOP);
      }
    });
    const itimerval soon{.it_interval = {.tv_sec = 0, .tv_usec = 5'000}, .it_value = {.tv_sec = 0, .tv_usec = 5'000}};
    ::setitimer(ITIMER_REAL, &soon, nullptr);
  }
  zoetrope::MpiJob job;
  try {
    run(job, argv[1], std::chrono::milliseconds(std::stoi(argv[2])));
  } catch (const std::bad_alloc&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    job.fail("lost_rank_program: out of memory", 7);
  } catch (const std::exception& error) {
    job.fail(std::string("lost_rank_program: ") + error.what(), 7);
  }
  return 0;
}
