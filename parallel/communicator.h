// What ranks say to each other. post() carries everything; exchange() posts and waits, and the collectives
// (collectives.h) are written on it, so their order of additions is ours and the same over every backend. Every
// exchange has a deadline and watches the abort flag of its group: it ends or throws Error(kCluster) that names the
// ranks it waited for, the operation and the seconds; it never hangs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "parallel/grow_only.h"
#include "parallel/traffic.h"

namespace zoetrope {

struct SendPart {
  int peer = 0;
  std::span<const std::byte> bytes;
};
struct ReceivePart {
  int peer = 0;
  std::span<std::byte> bytes;  // exactly as many as the peer sends
};

// The messages of one exchange under way: a backend's side of an Exchange. The backend owns it and may use it again
// after end().
class Flight {
 public:
  virtual ~Flight() = default;
  // Moves what can be moved without waiting; true when every part is done. Throws as wait() does.
  virtual bool test() = 0;
  // Returns when every part is done. Throws Error(kCluster) after the deadline or when the job was stopped, having
  // stopped it.
  virtual void wait() = 0;
  // The parts' memory is about to go: what was not moved is taken back.
  virtual void withdraw() noexcept = 0;
  // All is done or withdrawn.
  virtual void end() noexcept = 0;
  virtual Traffic sent() const = 0;
};

class Communicator;

// A handle of an exchange under way. The memory of its parts, `what` and the communicator outlive it. One that is
// dropped before it is done stops the job: its peers would wait for ever.
class Exchange {
 public:
  Exchange() = default;  // nothing: done
  Exchange(Communicator& comm, Flight& flight, std::string_view what);
  Exchange(Exchange&& other) noexcept;
  Exchange& operator=(Exchange&& other) noexcept;  // what was there is dropped
  ~Exchange() { drop(); }

  // Moves what can be moved without waiting; true when every part is done. Called now and then during other work,
  // because messages move only while somebody asks. Its deadline counts from the beginning of the exchange.
  bool test();
  // Returns when every part is done; the deadline counts from this call.
  void wait();

 private:
  using Clock = std::chrono::steady_clock;
  void done(double exposed_seconds, double hidden_seconds);
  void drop() noexcept;

  Communicator* comm_ = nullptr;
  Flight* flight_ = nullptr;  // null: done
  std::string_view what_;
  Clock::time_point posted_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Begins to send and receive all parts. Parts between two ranks pair up in the order of posting. A part to the own
  // rank is copied at once. Empty parts are left out on both sides. `what` names the operation in messages. An exchange
  // that fails stops the whole job as abort() does: ranks that missed a message are out of step for good.
  Exchange post(std::span<const SendPart> sends, std::span<const ReceivePart> receives, std::string_view what);
  // Returns when all parts are done.
  void exchange(std::span<const SendPart> sends, std::span<const ReceivePart> receives, std::string_view what) {
    post(sends, receives, what).wait();
  }

  // Ranks with the same color form a group, ordered by key. Collective over this communicator.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  // Tells every rank of the job to stop; their pending and later exchanges throw. Callable from any thread, once is
  // enough.
  virtual void abort(std::string_view why) noexcept = 0;

  // How long one exchange may take before it is given up; default 120 s. Holds for every communicator of this rank.
  virtual void set_deadline(std::chrono::milliseconds deadline) = 0;

  Traffic traffic() const { return book_.total(); }
  const TrafficBook& book() const { return book_; }

  // Memory for packing messages, kept between calls; valid until the next scratch() of this communicator.
  std::span<std::byte> scratch(std::size_t bytes) { return {scratch_.at_least(bytes), bytes}; }

 private:
  friend class Exchange;
  virtual Flight& start(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                        std::string_view what) = 0;

  TrafficBook book_;
  GrowOnly<std::byte> scratch_;
};

}  // namespace zoetrope
