// What ranks say to each other. One virtual call, exchange(), carries everything; the collectives (collectives.h) are
// written on it, so their order of additions is ours and the same over every backend.
// Every exchange has a deadline and watches the abort flag of its group: it returns or throws Error(kCluster) that
// names the ranks it waited for, the operation and the seconds; it never hangs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "parallel/grow_only.h"

namespace zoetrope {

struct SendPart {
  int peer = 0;
  std::span<const std::byte> bytes;
};
struct ReceivePart {
  int peer = 0;
  std::span<std::byte> bytes;  // exactly as many as the peer sends
};

// What a rank has sent, for the counters and the tests of closed forms. Messages to itself are not counted.
struct Traffic {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  bool operator==(const Traffic&) const = default;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Sends and receives all parts; returns when all are done. Parts between two ranks pair up in order. A part to the
  // own rank is copied. Empty parts are left out on both sides. `what` names the operation in messages. An exchange
  // that fails stops the whole job as abort() does: ranks that missed a message are out of step for good.
  virtual void exchange(std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                        std::string_view what) = 0;

  // Ranks with the same color form a group, ordered by key. Collective over this communicator.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  // Tells every rank of the job to stop; their pending and later exchanges throw. Callable from any thread, once is
  // enough.
  virtual void abort(std::string_view why) noexcept = 0;

  // How long one exchange may take before it is given up; default 120 s. Holds for every communicator of this rank.
  virtual void set_deadline(std::chrono::milliseconds deadline) = 0;

  virtual Traffic traffic() const = 0;

  // Memory for packing messages, kept between calls; valid until the next scratch() of this communicator.
  std::span<std::byte> scratch(std::size_t bytes) { return {scratch_.at_least(bytes), bytes}; }

 private:
  GrowOnly<std::byte> scratch_;
};

}  // namespace zoetrope
