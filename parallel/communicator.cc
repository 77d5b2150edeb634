#include "parallel/communicator.h"

#include <fmt/format.h>

#include <exception>
#include <utility>

namespace zoetrope {
namespace {

double seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Exchange::Exchange(Communicator& comm, Flight& flight, std::string_view what)
    : comm_(&comm), flight_(&flight), what_(what), posted_(Clock::now()) {}

Exchange::Exchange(Exchange&& other) noexcept
    : comm_(other.comm_), flight_(std::exchange(other.flight_, nullptr)), what_(other.what_), posted_(other.posted_) {}

Exchange& Exchange::operator=(Exchange&& other) noexcept {
  if (this != &other) {
    drop();
    comm_ = other.comm_;
    flight_ = std::exchange(other.flight_, nullptr);
    what_ = other.what_;
    posted_ = other.posted_;
  }
  return *this;
}

bool Exchange::test() {
  if (flight_ != nullptr && flight_->test()) {
    done(0, seconds(Clock::now() - posted_));
  }
  return flight_ == nullptr;
}

void Exchange::wait() {
  if (flight_ == nullptr) {
    return;
  }
  const auto begun = Clock::now();
  flight_->wait();
  done(seconds(Clock::now() - begun), seconds(begun - posted_));
}

void Exchange::done(double exposed_seconds, double hidden_seconds) {
  comm_->book_.add(what_, flight_->sent(), exposed_seconds, hidden_seconds);
  std::exchange(flight_, nullptr)->end();
}

void Exchange::drop() noexcept {
  if (flight_ != nullptr) {
    flight_->withdraw();
    comm_->abort(fmt::format("the exchange '{}' was dropped while it was under way", what_));
    std::exchange(flight_, nullptr)->end();
  }
}

Exchange Communicator::post(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                            std::string_view what) {
  return {*this, start(sends, receives, what), what};
}

}  // namespace zoetrope
