// The residual rows on their way from stage to stage of a pipeline. A stage works on wave w while the stage before it
// works on w + 1, so nobody may wait for the other to listen: between ranks of one host a wave lies in memory that both
// see, and only a token of a few bytes is sent; between hosts it travels as posted messages, which poll() moves on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/communicator.h"
#include "parallel/grow_only.h"
#include "parallel/ranks.h"

namespace zoetrope {

class HandOver {
 public:
  // Waves of at most `rows_max` rows of `columns` floats each lie in shared memory where the neighbour sees it; larger
  // ones travel as messages. Collective over the world. `ranks` outlives this.
  HandOver(Ranks& ranks, std::int64_t columns, std::int64_t rows_max);

  // The rows of the wave that begins: on the first stage room for them, on the others what the stage before has made of
  // them. Every stage begins and ends every wave, with the same rows. `next_rows`: of the wave behind this one, 0 after
  // the last, so that its messages are expected while this wave is computed.
  Rows<float> begin(std::int64_t rows, std::int64_t next_rows);
  // Moves messages under way; cheap, between layers.
  void poll();
  // The rows are as the next stage shall have them. After the last wave of a step nothing is left under way.
  void end(bool last);

  bool shares_with_next() const { return next_shares_; }
  bool shares_with_previous() const { return previous_shares_; }
  double waited_seconds() const { return waited_seconds_; }  // so far, for rows or for room

 private:
  // A wave may be on its way in, be computed, and be on its way out at the same time.
  static constexpr std::size_t kSlots = 3;
  using Token = std::uint64_t;
  struct alignas(64) Line {
    float values[16];
  };
  struct Slot {
    GrowOnly<Line> memory;                     // where the slot does not lie in shared memory
    std::optional<Exchange> arriving;  // rows (messages) or the token that says they are there (shared)
    std::optional<Exchange> leaving;   // rows (messages) or the token that says they were taken (shared)
    std::optional<Exchange> told;      // shared: the token that tells the stage before that its rows were taken
    std::int64_t expected = 0;                 // rows of `arriving`
    Token there = 0, seen = 0, taken = 0, thanked = 0;  // sent and received by the one, received and sent by the other
  };

  bool first() const { return pipe_.rank() == 0; }
  bool last_stage() const { return pipe_.rank() == pipe_.size() - 1; }
  void find_shared_memory(Ranks& ranks, std::int64_t rows_max);
  std::span<std::byte> outbox(const HostMemory& host, int local_rank) const;
  Rows<float> rows_of(std::size_t slot, std::int64_t rows);
  void expect(std::size_t slot, std::int64_t rows);
  void vacate(std::size_t slot);
  void wait(std::optional<Exchange>& posted);

  Communicator& pipe_;
  std::int64_t columns_;
  std::int64_t rows_max_ = 0;
  std::span<std::byte> region_;          // of the host: an outbox for every local rank
  std::byte* own_ = nullptr;             // slots of this rank, null when they are private
  const std::byte* previous_ = nullptr;  // slots of the stage before, null when they are not seen
  bool next_shares_ = false, previous_shares_ = false;
  std::array<Slot, kSlots> slots_;
  Token turn_ = 0;  // waves so far: the token of a wave
  Rows<float> current_;
  double waited_seconds_ = 0;
  std::vector<SendPart> sends_;
  std::vector<ReceivePart> receives_;
};

}  // namespace zoetrope
