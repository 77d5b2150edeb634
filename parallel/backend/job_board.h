// What the ranks of one host know of each other without messages: who stopped the job and why, who waits for whom, who
// reports a failure. Lies in memory that they share (threads: the heap; processes: HostMemory). Lock-free.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace zoetrope {

class JobBoard {
 public:
  static std::size_t bytes(int ranks);
  // `memory`: zero-filled, JobBoard::bytes(ranks) bytes, 64-byte aligned, shared by those who see the same board.
  JobBoard(std::span<std::byte> memory, int ranks);

  // The first caller's words are kept.
  void stop(int rank, std::string_view why) noexcept;
  bool stopped() const noexcept;
  int stopped_by() const noexcept;  // the rank; -1: nobody, or one that is just saying why
  std::string reason() const;  // "rank 1 stopped the job: <why>"
  // Error(kCluster) with the reason when the job was stopped.
  void throw_if_stopped() const;

  // Rank `rank` sleeps until `missing` sends or receives; -1: it does not wait.
  void set_waits_for(int rank, int missing) noexcept;
  // "rank 1, which waits for rank 2": those who wait are followed to the one that does not.
  std::string blamed(int missing) const;

  // True for the first caller only: it prints the message of the whole job.
  bool claim_report() noexcept;
  bool report_claimed() const noexcept;

 private:
  struct Shared;
  Shared* shared_;
  int ranks_;
};

}  // namespace zoetrope
