// The part of a communicator that every backend has: its members as ranks of the job, and how it is split.
// A group is told from others by its number, which travels with each message (as the tag of MPI), so that splitting
// needs no call of a library: only an all-gather with our own deadline.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/backend/job_board.h"
#include "parallel/communicator.h"

namespace zoetrope {

struct Group {
  int number = 0;
  int rank = 0;              // this rank's index in `members`
  std::vector<int> members;  // ranks of the job

  int size() const { return static_cast<int>(members.size()); }
};

Group whole_group(int rank, int size);

// Collective over `parent`. `next_number` belongs to the rank, not to the group: groups that share a rank never share a
// number.
Group split_group(Communicator& parent, const Group& group, int color, int key, int& next_number);

// Parts of the caller to itself, paired in order. Both lists may hold other parts too.
void copy_own_parts(int own, std::span<const SendPart> sends, std::span<const ReceivePart> receives,
                    std::string_view what);

// What was sent and what was waited for do not fit: bytes differ.
[[noreturn]] void refuse_length(std::string_view what, int from, int to, std::size_t sent, std::size_t expected);

// The deadline passed: stops the job and throws Error(kCluster) that names `missing` (ranks of the job, not empty).
[[noreturn]] void give_up(JobBoard& board, int rank, std::string_view what, std::chrono::milliseconds deadline,
                          std::span<const int> missing);

}  // namespace zoetrope
