// Step plans from the leader to the followers: small, numbered, checksummed messages. Tensors never travel here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/communicator.h"

namespace zoetrope {

class ControlChannel {
 public:
  explicit ControlChannel(Communicator& world);

  // Leader (rank 0): shares a message with all ranks. Followers: receive it. Messages are numbered from 0; a gap, a
  // wrong checksum or a foreign version is an Error(kCluster) naming both numbers.
  // The wait of a follower is bounded by the deadline; an idle leader sends something within it (the engine: a plan
  // without work).
  void send(std::span<const std::byte> message);
  std::vector<std::byte> receive();

  // What followers answer: the leader gets every rank's bytes in rank order.
  std::vector<std::vector<std::byte>> collect(std::span<const std::byte> bytes);

 private:
  Communicator& world_;
  std::uint64_t next_ = 0;           // number of the next message, counted by every rank
  std::vector<std::byte> envelope_;  // the message last sent, with its header; kept for its memory
};

}  // namespace zoetrope
