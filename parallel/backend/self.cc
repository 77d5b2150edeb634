#include "parallel/backend/self.h"

#include <algorithm>
#include <array>

#include "monitoring/check.h"
#include "parallel/backend/group.h"
#include "parallel/backend/job_board.h"

namespace zoetrope {
namespace {

struct SelfJob {
  alignas(64) std::array<std::byte, 2048> memory{};
  JobBoard board{memory, 1};
};

// Parts to oneself are copied when they are posted.
class SelfFlight : public Flight {
 public:
  bool test() override { return true; }
  void wait() override {}
  void withdraw() noexcept override {}
  void end() noexcept override {}
  Traffic sent() const override { return {}; }
};

class SelfCommunicator : public Communicator {
 public:
  explicit SelfCommunicator(std::shared_ptr<SelfJob> job) : job_(std::move(job)) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }

  std::unique_ptr<Communicator> split(int, int) override { return std::make_unique<SelfCommunicator>(job_); }
  void abort(std::string_view why) noexcept override { job_->board.stop(0, why); }
  void set_deadline(std::chrono::milliseconds) override {}  // nobody is waited for

 private:
  Flight& start(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                std::string_view what) override {
    job_->board.throw_if_stopped();
    check(std::all_of(sends.begin(), sends.end(), [](const SendPart& part) { return part.peer == 0; }) &&
              std::all_of(receives.begin(), receives.end(), [](const ReceivePart& part) { return part.peer == 0; }),
          "a rank alone has no peers");
    copy_own_parts(0, sends, receives, what);
    return flight_;
  }

  std::shared_ptr<SelfJob> job_;
  SelfFlight flight_;
};

}  // namespace

std::unique_ptr<Communicator> self_communicator() {
  return std::make_unique<SelfCommunicator>(std::make_shared<SelfJob>());
}

}  // namespace zoetrope
