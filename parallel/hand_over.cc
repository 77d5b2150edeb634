#include "parallel/hand_over.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>

#include "monitoring/check.h"

namespace zoetrope {
namespace {

constexpr std::size_t kHeaderBytes = 64;  // of an outbox: its owner's number
// Messages of this size are sent by every transport without asking the receiver first.
constexpr std::size_t kPieceBytes = 32'000;

std::size_t slot_bytes(std::int64_t rows, std::int64_t columns) {
  return round_up<std::size_t>(static_cast<std::size_t>(rows * columns) * sizeof(float), 64);
}

std::span<std::byte> bytes_of(Rows<float> rows) {
  return std::as_writable_bytes(std::span(rows.data, static_cast<std::size_t>(rows.rows * rows.columns)));
}

template <typename Part, typename Bytes>
void add_pieces(std::vector<Part>& parts, int peer, Bytes bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += kPieceBytes) {
    parts.push_back({peer, bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at))});
  }
}

}  // namespace

HandOver::HandOver(Ranks& ranks, std::int64_t columns, std::int64_t rows_max) : pipe_(*ranks.pipe), columns_(columns) {
  check(columns > 0 && rows_max >= 0, "a row has columns");
  if (pipe_.size() > 1 && rows_max > 0) {
    find_shared_memory(ranks, rows_max);
  }
}

std::span<std::byte> HandOver::outbox(const HostMemory& host, int local_rank) const {
  const std::size_t each = region_.size() / static_cast<std::size_t>(host.local_ranks());
  return region_.subspan(static_cast<std::size_t>(local_rank) * each, each);
}

// Every rank of a host has an outbox in one region. Whether a neighbour in the pipe looks at the same region is found
// out by a number that its owner wrote there: names of hosts do not tell (containers).
void HandOver::find_shared_memory(Ranks& ranks, std::int64_t rows_max) {
  HostMemory& host = *ranks.host;
  rows_max_ = rows_max;
  region_ = host.allocate(static_cast<std::size_t>(host.local_ranks()) *
                          (kHeaderBytes + kSlots * slot_bytes(rows_max, columns_)));
  struct Sign {
    std::uint64_t number = 0;
    std::int32_t local_rank = 0, local_ranks = 0;
  };
  std::random_device random;
  const Sign own{(std::uint64_t{random()} << 32) + random() + 1, host.local_rank(), host.local_ranks()};
  std::memcpy(outbox(host, own.local_rank).data(), &own.number, sizeof(own.number));
  host.fence();
  Sign theirs;
  const auto exchange = [&](const void* out, void* in, std::size_t bytes, int to, int from) {
    std::vector<SendPart> sends;
    std::vector<ReceivePart> receives;
    if (to >= 0 && to < pipe_.size()) {
      sends.push_back({to, {static_cast<const std::byte*>(out), bytes}});
    }
    if (from >= 0 && from < pipe_.size()) {
      receives.push_back({from, {static_cast<std::byte*>(in), bytes}});
    }
    pipe_.exchange(sends, receives, "who shares memory in the pipe");
  };
  const int stage = pipe_.rank();
  exchange(&own, &theirs, sizeof(own), stage + 1, stage - 1);
  if (!first() && theirs.local_rank < host.local_ranks()) {
    const auto box = outbox(host, theirs.local_rank);
    previous_shares_ = std::memcmp(box.data(), &theirs.number, sizeof(theirs.number)) == 0;
    previous_ = previous_shares_ ? box.data() + kHeaderBytes : nullptr;
  }
  exchange(&previous_shares_, &next_shares_, sizeof(bool), stage - 1, stage + 1);
  if (next_shares_) {
    own_ = outbox(host, own.local_rank).data() + kHeaderBytes;
  }
}

Rows<float> HandOver::rows_of(std::size_t slot, std::int64_t rows) {
  if (own_ != nullptr && rows <= rows_max_) {
    return {reinterpret_cast<float*>(own_ + slot * slot_bytes(rows_max_, columns_)), rows, columns_};
  }
  const std::size_t lines = slot_bytes(rows, columns_) / sizeof(Line);
  return {reinterpret_cast<float*>(slots_[slot].memory.at_least(std::max<std::size_t>(lines, 1))), rows, columns_};
}

void HandOver::wait(std::optional<Exchange>& posted) {
  if (posted) {
    const auto began = std::chrono::steady_clock::now();
    posted->wait();
    posted.reset();
    waited_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  }
}

// What left from the slot has arrived.
void HandOver::vacate(std::size_t slot) {
  wait(slots_[slot].leaving);
  wait(slots_[slot].told);
}

// Posts the receive of a wave's rows, or of the token that stands for them.
void HandOver::expect(std::size_t slot, std::int64_t rows) {
  if (first() || rows == 0 || slots_[slot].arriving) {
    return;
  }
  slots_[slot].expected = rows;
  receives_.clear();
  if (previous_shares_ && rows <= rows_max_) {
    receives_.push_back({pipe_.rank() - 1, std::as_writable_bytes(std::span(&slots_[slot].seen, 1))});
  } else {
    vacate(slot);
    add_pieces(receives_, pipe_.rank() - 1, bytes_of(rows_of(slot, rows)));
  }
  slots_[slot].arriving = pipe_.post({}, receives_, "rows from the stage before");
}

Rows<float> HandOver::begin(std::int64_t rows, std::int64_t next_rows) {
  const std::size_t slot = turn_ % kSlots;
  vacate(slot);
  current_ = rows_of(slot, rows);
  expect(slot, rows);
  expect((turn_ + 1) % kSlots, next_rows);
  check(!slots_[slot].arriving || slots_[slot].expected == rows, "a wave has the rows that were expected");
  wait(slots_[slot].arriving);
  if (previous_shares_ && rows > 0 && rows <= rows_max_) {
    check_eq(slots_[slot].seen, turn_, "a wave in shared memory is the one that is waited for");
    std::memcpy(current_.data, previous_ + slot * slot_bytes(rows_max_, columns_), bytes_of(current_).size());
    slots_[slot].thanked = turn_;
    const SendPart taken{pipe_.rank() - 1, std::as_bytes(std::span(&slots_[slot].thanked, 1))};
    slots_[slot].told = pipe_.post({&taken, 1}, {}, "rows were taken by the next stage");
  }
  return current_;
}

void HandOver::poll() {
  for (Slot& slot : slots_) {
    for (auto* posted : {&slot.arriving, &slot.leaving}) {
      if (*posted) {
        (*posted)->test();
      }
    }
  }
}

void HandOver::end(bool last) {
  const std::size_t at = turn_ % kSlots;
  Slot& slot = slots_[at];
  if (!last_stage() && current_.rows > 0) {
    const int next = pipe_.rank() + 1;
    sends_.clear();
    receives_.clear();
    if (next_shares_ && current_.rows <= rows_max_) {
      slot.there = turn_;
      sends_.push_back({next, std::as_bytes(std::span(&slot.there, 1))});
      receives_.push_back({next, std::as_writable_bytes(std::span(&slot.taken, 1))});
    } else {
      add_pieces(sends_, next, std::span<const std::byte>(bytes_of(current_)));
    }
    slot.leaving = pipe_.post(sends_, receives_, "rows to the next stage");
  }
  ++turn_;
  for (std::size_t i = 0; last && i < kSlots; ++i) {
    vacate(i);
  }
}

}  // namespace zoetrope
